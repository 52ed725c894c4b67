"""No dead options: every hyperparameter of a trial changes what comes out of its training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.knobs import Knobs, Outcome, Trained, cases, differ
from tests.trainables.psf.synthetic import newest, tensors
from tests.trainables.training.small import METRIC, task, trained
from trainables.psf.data import PsfTensors
from trainables.training.state import without_prefix

STEPS = 40
KNOBS: Knobs = {
    "kl_weight": ({}, [1e-1]),
    "kl_schedule": ({}, ["constant", "cosine", "cyclical"]),
    "kl_warmup": ({}, [0.25]),
    "kl_cycles": ({"kl_schedule": "cyclical"}, [2]),
    "kl_reduction": ({}, ["mean"]),
    "target_rate": ({}, [0.5]),
    "free_bits": ({"kl_weight": 1.0}, [0.05]),
    "free_bits_per": ({"kl_weight": 1.0, "free_bits": 0.03}, ["sample"]),
    "smooth_weight": ({}, [1.0]),
    "smooth_term": ({"smooth_weight": 1.0}, ["kl", "output"]),
    "smooth_pairs": ({}, [4]),
    "recon_scale": ({}, [1e2]),
    "decoder_variance": ({}, ["learned", "optimal"]),
    "network": ({}, ["conv", "basis"]),
    "prior": ({}, ["standard"]),
    "latent_dim": ({}, [3]),
    "hidden_dim": ({}, [16]),
    "num_layers": ({}, [1]),
    "encoder_layers": ({}, [1]),
    "fourier_bands": ({}, [1]),
    "defocus": ({}, [True]),
    "components": ({"network": "basis"}, [4]),
    "base_width": ({"network": "conv"}, [4]),
    "norm": ({"network": "conv", "base_width": 4}, ["group", "none"]),
    "upsampling": ({"network": "conv", "base_width": 4}, ["transposed4", "bilinear"]),
    "optimizer": ({"weight_decay": 0.1}, ["adam", "sgd"]),
    "learning_rate": ({}, [1e-3]),
    "lr_schedule": ({}, ["constant", "cosine", "cosine_restarts"]),
    "lr_warmup": ({}, [0.3]),
    "lr_cycles": ({"lr_schedule": "cosine_restarts"}, [2]),
    "momentum": ({"optimizer": "sgd"}, [0.5]),
    "weight_decay": ({}, [0.1]),
    "grad_clip": ({"optimizer": "sgd", "recon_scale": 1e5}, [0.01, 0.0]),
    "accumulation": ({}, [2]),
    "ema_width": ({}, [0.2, 0.0]),
    "batch_size": ({}, [8]),
    "precision": ({}, ["bfloat16"]),
    # Of a trial that cannot improve: its second report is its last.
    "plateau": ({"learning_rate": 1e-30, "ema_width": 0.0}, [0.25]),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PsfTensors:
    return tensors(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, data: PsfTensors) -> Trained:
    # Convolutions halve a kernel's side four times; of defocus there is some where depth and focus vary.
    halvable = tensors(tmp_path_factory.mktemp("halvable"), kernel_px=16)
    distances = (-10000.0, -2000.0)
    focused = tensors(tmp_path_factory.mktemp("focused"), depths=distances, focus=distances)
    sets = {"plain": data, "halvable": halvable, "focused": focused}

    def train(on: str, **changes: Any) -> Outcome:
        directory: Path = tmp_path_factory.mktemp("trial")
        reports = trained(task(directory, steps=STEPS, every=STEPS // 4, **changes), sets[on])
        weights = without_prefix("model.", newest(directory / "checkpoints", "best").tensors)
        return Outcome(len(reports.steps), weights)

    return Trained(train)


@pytest.mark.parametrize(("name", "value"), cases(KNOBS))
def test_a_hyperparameter_changes_the_result(outcome, name, value):
    others = KNOBS[name][0]
    on = {"defocus": "focused"}.get(name, "halvable" if "conv" in (value, others.get("network")) else "plain")
    assert differ(outcome(on=on, **others), outcome(on=on, **{**others, name: value}))


def test_a_trial_on_a_plateau_ends_with_a_last_report(tmp_path, data):
    still: dict[str, Any] = {"learning_rate": 1e-30, "ema_width": 0.0}
    reports = trained(task(tmp_path, plateau=0.5, **still), data)
    assert reports.steps == [10, 20, 30]  # the first is the best, half the budget later none was better
    assert reports.last == 30
    again = trained(task(tmp_path, plateau=0.5, **still), data)
    assert (again.steps, again.last) == ([30], 30)


def test_the_rate_comes_to_its_target(tmp_path, data):
    settings: dict[str, Any] = {
        "steps": 900,
        "every": 300,
        "lr_schedule": "constant",
        "learning_rate": 1e-3,
        "kl_warmup": 0.0,
    }
    free = trained(task(tmp_path / "free", **settings), data)
    steered = trained(task(tmp_path / "steered", **settings, target_rate=1.0), data)
    assert free.metrics[900]["train/kl"] < 0.3
    assert steered.metrics[900]["train/kl"] == pytest.approx(1.0, rel=0.3)
    assert steered.metrics[900]["train/kl_weight"] < 0.5 * free.metrics[900]["train/kl_weight"]


def test_the_learned_variance_comes_to_the_squared_error(tmp_path, data):
    changes: dict[str, Any] = {"decoder_variance": "learned", "learning_rate": 1e-2, "kl_weight": 1.0}
    last = trained(task(tmp_path, steps=1000, every=200, **changes), data).metrics[1000]
    assert last["train/decoder_variance"] == pytest.approx(last["train/mse"], rel=0.5)
    assert newest(tmp_path / "checkpoints", "best").config["learned_variance"]


def test_bfloat16_trains_nearly_as_well(tmp_path, data):
    errors = []
    for precision in ("float32", "bfloat16"):
        reports = trained(task(tmp_path / precision, steps=300, every=300, precision=precision), data)
        errors.append(reports.metrics[300][METRIC])
        weights = newest(tmp_path / precision / "checkpoints").tensors
        assert weights["model.decoder.0.weight"].dtype == torch.float32
    assert errors[1] == pytest.approx(errors[0], rel=0.2)
