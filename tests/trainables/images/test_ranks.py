"""Two workers train the image networks that one would train, batch statistics and distances among what they share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.psf.synthetic import newest, state_of
from tests.trainables.training.test_perceptual import random_weights
from trainables.images.data import ImageSplit, ImageTensors, TrainingImages
from trainables.images.learner import ImageLearner
from trainables.images.trial import VaeImageTrial
from trainables.training.loop import train
from trainables.training.perceptual import Vgg16
from trainables.training.task import TrainingTask

WEIGHTS = {"l1_weight": 1.0, "ssim_weight": 0.5, "scales": 2, "spectral_weight": 0.1}
# Batches that do not divide by two, and one of which nothing is left for one worker.
CASES: dict[str, dict[str, Any]] = {
    "residual": {
        "network": "residual",
        "latent_channels": 1,
        "likelihood": "none",
        "batch_size": 5,
        "ema_width": 0.2,
        **WEIGHTS,
    },
    "accumulated": {
        "network": "residual",
        "latent_channels": 1,
        "likelihood": "gaussian_optimal",
        "upsampling": "transposed4",
        "free_bits": 0.03,
        "batch_size": 3,
        "accumulation": 2,
    },
    "one": {"network": "residual", "latent_channels": 1, "likelihood": "gaussian_learned", "batch_size": 1},
    "bottleneck": {
        "network": "bottleneck",
        "latent_dim": 3,
        "blocks": 1,
        "layerscale": 0.1,
        "likelihood": "gaussian_pixel",
        "perceptual_weight": 0.1,
        "batch_size": 3,
    },
}
STEPS = 4

RANK = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.trainables.images.test_ranks import CASES, trained

rank, root = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=2)
for case in CASES:
    trained(root / "two" / case, case, rank=rank, world_size=2)
dist.barrier()  # neither leaves while the other still talks to it
dist.destroy_process_group()
"""


class InDouble(ImageLearner):
    """In float64, so that only a wrong gradient, not rounding that Adam amplifies, can tell models apart."""

    def inputs(self, trial: VaeImageTrial, data: ImageTensors, drawn: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        x, *others = super().inputs(trial, data, drawn)
        return x.double(), *others

    def evaluate(self, network: Any, data: ImageTensors) -> dict[str, float]:
        """What the statistics of the network's batches make of one latent."""
        network.eval()
        with torch.no_grad():
            mean = float(network.generate(torch.ones(1, network.config.latent_dim)).mean())
        network.train()
        return {"val/nll": mean}


def images() -> ImageTensors:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 1, 32, 32), generator=generator, dtype=torch.uint8)
    split = ImageSplit(pixels, torch.zeros(12), binary=False, dynamic=False)
    weights = {name: value.double() for name, value in random_weights().items()}
    return ImageTensors(TrainingImages(split, 32), split, Vgg16(weights))


def trained(directory: Path, case: str, **place: Any) -> dict[str, float]:
    """The last report."""
    trial = VaeImageTrial(base_width=4, learning_rate=1e-2, precision="float32", **CASES[case])
    task = TrainingTask("vae_image", trial, 3, STEPS, (2, STEPS), str(directory), "val/nll", "min")
    with closing(train(task, InDouble(), images(), **place)) as reports:
        return [report.metrics for report in reports][-1]


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_two_workers_train_what_one_does(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [process.wait(timeout=400) for process in ranks] == [0, 0]
    for case in CASES:
        metrics = trained(tmp_path / "one" / case, case)
        one, two = state_of(tmp_path / "one" / case), state_of(tmp_path / "two" / case)
        assert case == "bottleneck" or any("running_var" in name for name in one)
        for name in one:
            # Biases before a BatchNorm have no gradient but rounding, of which Adam makes 1e-9.
            torch.testing.assert_close(two[name], one[name], atol=1e-7, rtol=1e-7)
        found = newest(tmp_path / "two" / case / "checkpoints").metrics
        timing = "train/steps_per_second"
        assert {**found, timing: 0} == pytest.approx({**metrics, timing: 0}, rel=1e-6, abs=1e-9)
