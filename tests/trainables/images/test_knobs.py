"""No dead options: every hyperparameter of an image trial changes what comes out of its training."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.psf.synthetic import newest
from tests.trainables.training.test_perceptual import random_weights
from trainables.images.data import ImageSplit, ImageTensors, TrainingImages
from trainables.images.learner import ImageLearner
from trainables.images.trial import SPACES, VaeImageTrial
from trainables.training.loop import train
from trainables.training.perceptual import Vgg16
from trainables.training.state import without_prefix
from trainables.training.task import TrainingTask

REPORTS = (2, 4, 8)
TRIAL: dict[str, Any] = {
    "network": "mlp",
    "latent_dim": 4,
    "hidden_dim": 8,
    "base_width": 4,
    "likelihood": "gaussian_learned",
    "kl_schedule": "linear",
    "kl_warmup": 0.5,
    "learning_rate": 1e-2,
    "lr_schedule": "one_cycle",
    "batch_size": 6,
    "ema_width": 0.1,
    "precision": "float32",
    "weight_decay": 0.01,
}
RESIDUAL = {"network": "residual", "latent_channels": 1, "batch_size": 3}
BOTTLENECK = {"network": "bottleneck", "blocks": 1, "layerscale": 0.1, "batch_size": 3}
# Hyperparameter -> the values that it needs of others to act, and what it is changed to from TRIAL's value.
KNOBS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "kl_weight": ({}, [10.0]),
    "kl_schedule": ({}, ["constant", "cosine", "cyclical"]),
    "kl_warmup": ({}, [0.25]),
    "kl_cycles": ({"kl_schedule": "cyclical"}, [2]),
    "kl_reduction": ({}, ["mean"]),
    "target_rate": ({}, [0.5]),
    "free_bits": ({"kl_weight": 100.0}, [0.2]),
    "free_bits_per": ({"kl_weight": 100.0, "free_bits": 0.2}, ["sample"]),
    "likelihood": (
        {"l1_weight": 1.0},
        [name for name, space in SPACES.items() if space != "binary" and name != "gaussian_learned"],
    ),
    "decoder_variance": ({"likelihood": "gaussian_fixed"}, [0.1]),
    "charbonnier_epsilon": ({"likelihood": "charbonnier"}, [0.1]),
    "train_samples": ({}, [2]),
    "l1_weight": ({}, [1.0]),
    "ssim_weight": ({}, [1.0]),
    "scales": ({"ssim_weight": 1.0}, [2]),
    "spectral_weight": ({}, [1.0]),
    "spectrum": ({"spectral_weight": 1.0}, ["log_magnitude", "radial"]),
    "perceptual_weight": ({}, [1.0]),
    "network": ({"batch_size": 3}, ["conv", "resnet", "residual", "bottleneck"]),
    "latent_dim": ({}, [3]),
    "latent_channels": (RESIDUAL, [2]),
    "levels": ({"network": "conv"}, [3]),
    "base_width": ({"network": "conv"}, [5]),
    "hidden_dim": ({}, [9]),
    "norm": (RESIDUAL, ["group", "none"]),
    "upsampling": (RESIDUAL, ["transposed3", "transposed4"]),
    "convs": (RESIDUAL, [1]),
    "attention": (RESIDUAL, [False]),
    "blocks": (BOTTLENECK, [2]),
    "se_ratio": (BOTTLENECK, [2]),
    "layerscale": (BOTTLENECK, [1.0]),
    "ppca": ({}, [True]),
    "optimizer": ({}, ["adam", "sgd"]),
    "learning_rate": ({}, [1e-3]),
    "lr_schedule": ({}, ["constant", "cosine", "cosine_restarts"]),
    "lr_warmup": ({}, [0.3]),
    "lr_cycles": ({"lr_schedule": "cosine_restarts"}, [2]),
    "momentum": ({"optimizer": "sgd"}, [0.5]),
    "weight_decay": ({}, [0.1]),
    "grad_clip": ({"optimizer": "sgd", "learning_rate": 1e-9}, [0.01, 0.0]),
    "accumulation": ({}, [2]),
    "ema_width": ({}, [0.2, 0.0]),
    "batch_size": ({}, [4]),
    "precision": ({}, ["bfloat16"]),
    # Of a trial that cannot improve: its second report is its last.
    "plateau": ({"learning_rate": 1e-30, "ema_width": 0.0}, [0.25]),
}


def images() -> ImageTensors:
    """Twelve of noise, 32 px, to train on and to be held out."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 1, 32, 32), generator=generator, dtype=torch.uint8)
    split = ImageSplit(pixels, torch.zeros(12), binary=False, dynamic=False)
    return ImageTensors(TrainingImages(split, 32), split, Vgg16(random_weights()))


@pytest.fixture(scope="module")
def data() -> ImageTensors:
    return images()


class Learner(ImageLearner):
    """Judges by the training's own numbers, which is all that this takes."""

    def evaluate(self, network: Any, data: ImageTensors) -> dict[str, float]:
        return {"val/nll": 0.0}


def outcome(directory: Path, data: ImageTensors, **changes: Any) -> tuple[int, dict[str, torch.Tensor]]:
    """How many reports there were, and the evaluated weights of the first, which is the best."""
    trial = VaeImageTrial.model_validate({**TRIAL, **changes})
    task = TrainingTask("vae_image", trial, 3, REPORTS[-1], REPORTS, str(directory), "val/nll", "min")
    with closing(train(task, Learner(), data)) as reports:
        count = len(list(reports))
    tensors = newest(directory / "checkpoints").tensors
    evaluated = without_prefix("average.", tensors) or without_prefix("model.", tensors)
    return count, {name.removeprefix("module."): value for name, value in evaluated.items()}


def test_every_hyperparameter_is_listed_here():
    assert KNOBS.keys() == VaeImageTrial.model_fields.keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, values) in KNOBS.items() for value in values])
def test_a_hyperparameter_changes_the_result(tmp_path, data, name, value):
    others = KNOBS[name][0]
    reports, before = outcome(tmp_path / "before", data, **others)
    changed_reports, after = outcome(tmp_path / "after", data, **{**others, name: value})
    shared = before.keys() & after.keys()
    assert shared
    alike = all(before[key].shape == after[key].shape and torch.equal(before[key], after[key]) for key in shared)
    assert reports != changed_reports or not alike
