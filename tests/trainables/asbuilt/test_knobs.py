"""No dead options: every hyperparameter of a trial of units changes what comes out of its training."""

from typing import Any

import pytest

from tests.trainables.knobs import Knobs, Outcome, Trained, cases, differ, outcome_of
from tests.trainables.packs import batched, distance
from trainables.asbuilt.data import AsBuiltTensors
from trainables.asbuilt.learner import AsBuiltLearner
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.trial import AsBuiltTrial

TRIAL: dict[str, Any] = {
    "hidden_dim": 16,
    "components": 48,
    "latent_dim": 4,
    "targets": 4,
    "batch_size": 8,
    "kl_schedule": "linear",
    "kl_warmup": 0.5,
    "learning_rate": 1e-2,
    "lr_schedule": "one_cycle",
    "ema_width": 0.1,
    "precision": "float32",
    "weight_decay": 0.01,
}
HEARD = {"kl_weight": 100.0}
"""Of which a step hears."""
KNOBS: Knobs = {
    "kl_weight": ({}, [10.0]),
    "kl_schedule": (HEARD, ["constant", "cosine", "cyclical"]),
    "kl_warmup": (HEARD, [0.25]),
    "kl_cycles": ({"kl_schedule": "cyclical", **HEARD}, [2]),
    "kl_reduction": (HEARD, ["mean"]),
    "target_rate": (HEARD, [0.5]),
    "free_bits": (HEARD, [0.2]),
    "free_bits_per": ({"free_bits": 0.2, **HEARD}, ["sample"]),
    "recon_scale": ({"kl_weight": 1.0}, [10.0]),
    "decoder_variance": ({}, ["learned", "optimal"]),
    "smooth_weight": ({}, [1.0]),
    "targets": ({}, [3]),
    "mirrored": ({}, [False]),
    "observed_noise": ({}, [0.5]),
    "observed_shift_px": ({}, [0.5]),
    "network": ({}, ["mlp"]),
    "components": ({}, [24]),
    "pooling": ({}, ["attention"]),
    "prior": (HEARD, ["learned"]),
    "latent_dim": ({}, [3]),
    "hidden_dim": ({}, [12]),
    "num_layers": ({}, [1]),
    "encoder_layers": ({}, [1]),
    "fourier_bands": ({}, [1]),
    "optimizer": ({}, ["adam", "sgd"]),
    "learning_rate": ({}, [1e-3]),
    "lr_schedule": ({}, ["constant", "cosine", "cosine_restarts"]),
    "lr_warmup": ({}, [0.3]),
    "lr_cycles": ({"lr_schedule": "cosine_restarts"}, [2]),
    "momentum": ({"optimizer": "sgd"}, [0.5]),
    "weight_decay": ({}, [0.1]),
    "grad_clip": ({"optimizer": "sgd", "learning_rate": 1e-6, "recon_scale": 1e3}, [0.01, 0.0]),
    "accumulation": ({}, [2]),
    "ema_width": ({}, [0.2, 0.0]),
    "batch_size": ({}, [6]),
    "precision": ({}, ["bfloat16"]),
    # Of a trial that cannot improve: its second report is its last.
    "plateau": ({"learning_rate": 1e-30, "ema_width": 0.0}, [0.25]),
}


class Learner(AsBuiltLearner):
    """Judges by nothing, which is all that this takes."""

    def evaluate(self, network: AsBuiltCVAE, data: AsBuiltTensors) -> dict[str, float]:
        return {"val/error": 0.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, square: dict[str, str]) -> Trained:
    data = AsBuiltTensors.load(square)

    def outcome(**changes: Any) -> Outcome:
        trial = AsBuiltTrial.model_validate({**TRIAL, **changes})
        return outcome_of(tmp_path_factory.mktemp("trial"), "cvae_asbuilt", trial, Learner(), data, "val/error")

    return Trained(outcome)


@pytest.mark.parametrize(("name", "value"), cases(KNOBS))
def test_a_hyperparameter_changes_the_result(trained, name, value):
    others = KNOBS[name][0]
    assert differ(trained(**others), trained(**{**others, name: value}))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), cases(KNOBS))
def test_an_option_is_batched_with_itself_to_rounding(square, name, value):
    """By steps of gradient descent: Adam takes one of full length where a gradient is nothing but rounding."""
    values = {**TRIAL, **KNOBS[name][0], name: value, "learning_rate": 1e-4}
    if name not in ("optimizer", "momentum"):
        values["optimizer"] = "sgd"
    one = AsBuiltTrial.model_validate(values)
    other = one.model_copy(update={"learning_rate": one.learning_rate / 2, "recon_scale": 2 * one.recon_scale})
    learner, data = AsBuiltLearner(), AsBuiltTensors.load(square)
    assert batched(learner, data, [one, other])
    assert distance(learner, data, [one, other], 200) < (0.2 if value == "bfloat16" else 1e-3)
