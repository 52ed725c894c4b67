"""W workers train what one does with the same batch, whatever acts in the loss."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.psf.synthetic import newest, state_of, tensors
from tests.trainables.training.small import TIMING, task, trained
from trainables.psf.data import Basis, PsfSplit, PsfTensors

# Every term acts: free bits near the KL's size, all three weights, a batch and pairs that do not divide by two.
CASES: dict[str, dict[str, Any]] = {
    "dimension": {"free_bits": 0.03, "kl_weight": 1.0, "smooth_weight": 1.0, "batch_size": 15, "smooth_pairs": 7},
    "sample": {
        "free_bits": 0.1,
        "free_bits_per": "sample",
        "kl_weight": 1.0,
        "smooth_term": "kl",
        "smooth_weight": 0.1,
        "smooth_pairs": 1,
    },
    "optimal": {"decoder_variance": "optimal", "kl_weight": 1.0, "target_rate": 0.5, "batch_size": 15},
    "learned": {
        "decoder_variance": "learned",
        "kl_weight": 1.0,
        "accumulation": 3,
        "batch_size": 5,
        "optimizer": "adam",
    },
    "few": {"batch_size": 1, "smooth_pairs": 1, "accumulation": 2, "grad_clip": 0.0},  # nothing is left for one rank
    "basis": {"network": "basis", "components": 12, "recon_scale": 10.0, "batch_size": 15},
    # Batch statistics are those of the whole batch, and of the moving average measured anew; biases before them have no gradient.
    "conv": {"network": "conv", "base_width": 4, "norm": "batch", "optimizer": "sgd", "batch_size": 15},
    "sgd": {"optimizer": "sgd", "kl_reduction": "mean", "lr_schedule": "cosine_restarts", "smooth_term": "output"},
}

RANK = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.trainables.training.small import task, trained
from tests.trainables.training.test_ranks import CASES, in_double
from trainables.psf.data import PsfTensors

rank, root = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=2)
sets = {
    name: in_double(PsfTensors.load(root / name / "train", root / name / "validation")) for name in ("data", "halvable")
}
for case, changes in CASES.items():
    data = sets["halvable" if case == "conv" else "data"]
    reports = trained(task(root / "two" / case, **changes), data, rank=rank, world_size=2)
    assert reports.steps == [10, 20, 30, 40]
    assert bool(reports.metrics[40]) == (rank == 0)
dist.barrier()  # neither leaves while the other still talks to it
dist.destroy_process_group()
"""


def in_double(data: PsfTensors) -> PsfTensors:
    """The same data in float64, so that only a wrong gradient, not rounding that Adam amplifies, can tell models apart."""
    train, validation = (
        PsfSplit(split.kernels.double(), split.points.double()) for split in (data.train, data.validation)
    )
    return replace(data, train=train, validation=validation, basis=Basis(train.kernels, mirrored=False))


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_precision")
def test_two_workers_train_the_same_model_as_one_with_the_same_batch(tmp_path, data):
    halvable = tensors(tmp_path / "halvable", kernel_px=16)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [process.wait(timeout=400) for process in ranks] == [0, 0]
    for case, changes in CASES.items():
        known = in_double(halvable if case == "conv" else data)
        reports = trained(task(tmp_path / "one" / case, **changes), known)
        one, two = state_of(tmp_path / "one" / case), state_of(tmp_path / "two" / case)
        for name in one:
            torch.testing.assert_close(two[name], one[name], atol=1e-9, rtol=1e-9)
        metrics = newest(tmp_path / "two" / case / "checkpoints").metrics
        for name, value in reports.metrics[40].items():
            if name != TIMING:
                assert metrics[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
        # The test has teeth: free bits lift the KL here.
        assert "free_bits" not in changes or (
            reports.metrics[10]["train/kl_free"] > 1.01 * reports.metrics[10]["train/kl"]
        )
