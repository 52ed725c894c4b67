"""No dead options: every hyperparameter of an image trial changes what comes out of its training."""

from typing import Any

import pytest
import torch

from tests.trainables.knobs import Knobs, Outcome, Trained, cases, differ, outcome_of
from tests.trainables.packs import batched, distance
from tests.trainables.training.test_perceptual import random_weights
from trainables.images.data import ImageSplit, ImageTensors, TrainingImages
from trainables.images.learner import ImageLearner
from trainables.images.trial import SPACES, VaeImageTrial
from trainables.sizes import NETWORKS
from trainables.training.perceptual import Vgg16

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
# Without an average, whose statistics would be measured anew at every report.
UNAVERAGED = {**RESIDUAL, "ema_width": 0.0}
KNOBS: Knobs = {
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
    "network": ({"batch_size": 3, "ema_width": 0.0}, ["conv", "resnet", "residual", "bottleneck"]),
    "latent_dim": ({}, [3]),
    "latent_channels": (UNAVERAGED, [2]),
    "levels": ({"network": "conv"}, [3]),
    "base_width": ({"network": "conv"}, [5]),
    "hidden_dim": ({}, [9]),
    "norm": (UNAVERAGED, ["group", "none"]),
    "upsampling": (UNAVERAGED, ["transposed3", "transposed4"]),
    "convs": (UNAVERAGED, [1]),
    "attention": (UNAVERAGED, [False]),
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
# Hyperparameter -> what it is changed to, and the networks that have it.
OF_NETWORKS: dict[str, tuple[Any, set[str]]] = {
    "latent_dim": (3, {"mlp", "conv", "resnet", "bottleneck"}),
    "latent_channels": (2, {"residual"}),
    "levels": (3, {"conv", "resnet", "bottleneck"}),
    "base_width": (8, {"conv", "resnet", "residual", "bottleneck"}),
    "hidden_dim": (9, {"mlp", "conv", "resnet"}),
    "norm": ("group", {"residual"}),
    "upsampling": ("transposed4", {"residual"}),
    "convs": (1, {"residual"}),
    "attention": (False, {"residual"}),
    "blocks": (1, {"bottleneck"}),
    "se_ratio": (2, {"bottleneck"}),
    "layerscale": (0.5, {"bottleneck"}),
}


def images() -> ImageTensors:
    """Twelve of noise, 32 px, to train on and to be held out."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 1, 32, 32), generator=generator, dtype=torch.uint8)
    split = ImageSplit(pixels, torch.zeros(12), binary=False, dynamic=False)
    return ImageTensors(TrainingImages(split, 32), split, Vgg16(random_weights()))


class Learner(ImageLearner):
    """Judges by nothing, which is all that this takes."""

    def evaluate(self, network: Any, data: ImageTensors) -> dict[str, float]:
        return {"val/nll": 0.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data = images()

    def outcome(**changes: Any) -> Outcome:
        trial = VaeImageTrial.model_validate({**TRIAL, **changes})
        return outcome_of(tmp_path_factory.mktemp("trial"), "vae_image", trial, Learner(), data, "val/nll")

    return Trained(outcome)


@pytest.mark.parametrize(("name", "value"), cases(KNOBS))
def test_a_hyperparameter_changes_the_result(trained, name, value):
    others = KNOBS[name][0]
    assert differ(trained(**others), trained(**{**others, name: value}))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), cases(KNOBS))
def test_an_option_is_batched_with_itself_to_rounding(name, value):
    """By steps of gradient descent: Adam takes one of full length where a gradient is nothing but rounding."""
    values = {**TRIAL, **KNOBS[name][0], name: value, "learning_rate": 5e-5}
    if name not in ("optimizer", "momentum"):
        values["optimizer"] = "sgd"
    one = VaeImageTrial.model_validate(values)
    other = one.model_copy(update={"learning_rate": one.learning_rate / 2, "kl_weight": one.kl_weight / 2})
    learner, data = ImageLearner(), images()
    assert batched(learner, data, [one, other])
    steps = 20 if one.perceptual_weight else 200  # VGG-16's take long
    coarse = {
        "precision": 0.2,
        "attention": 0.1,
    }  # without attention the gradient's norm of a single step is not settled
    assert distance(learner, data, [one, other], steps) < coarse.get(name, 1e-3)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_just_the_hyperparameters_of_its_own(network):
    data, fixed = images(), {**TRIAL, "network": network, "latent_channels": 1, "hidden_dim": 8}
    plain = built(data, fixed)
    has = {name for name, (value, _) in OF_NETWORKS.items() if not alike(plain, built(data, {**fixed, name: value}))}
    assert has == {name for name, (_, networks) in OF_NETWORKS.items() if network in networks}


def built(data: ImageTensors, values: dict[str, Any]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return ImageLearner().build(VaeImageTrial.model_validate(values), data).state_dict()


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
