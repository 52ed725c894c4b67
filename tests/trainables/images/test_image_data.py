from typing import get_args

import pytest
from pydantic import ValidationError

from spaces.errors import SpaceError
from spaces.loading import load
from trainables.images.image_data import ImageData
from trainables.images.trial import SPACES, Likelihood, VaeImageTrial


def test_every_likelihood_says_which_pixels_it_is_one_of():
    assert set(SPACES) == set(get_args(Likelihood))


@pytest.mark.parametrize("likelihood", list(SPACES))
@pytest.mark.parametrize("binarise", ["none", "static", "dynamic"])
def test_a_likelihood_that_does_not_fit_the_pixels_is_refused_in_one_line(likelihood, binarise):
    data, trial = ImageData(binarise=binarise), VaeImageTrial(likelihood=likelihood, l1_weight=1.0)
    if (likelihood == "bernoulli") == (binarise != "none"):
        data.check(trial)
        return
    with pytest.raises(ValueError, match=f"`likelihood: {likelihood}` needs") as caught:
        data.check(trial)
    assert "\n" not in str(caught.value)
    assert f"(data.binarise={binarise})" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"images": "mnist"}, "`images: mnist` needs `root`"),
        ({"images": "mnist_5k", "root": "x"}, "takes no `root`"),
        ({"images": "cifar10", "root": "x"}, "needs `binarise: none`"),
        ({"images": "patches"}, "needs `binarise: none`"),
        ({"images": "celeba", "binarise": "none"}, "`images: celeba` needs `root`"),
        ({"images": "cifar10", "root": "x", "binarise": "none", "px": 64}, "stay so: `px: 32`, but got 64"),
        ({"images": "patches", "binarise": "none", "channels": 1}, "or `images: patches_grey`, but got 1"),
        ({"images": "patches", "binarise": "none", "px": 32, "shift": 32}, r"shift=32, px=32"),
    ],
)
def test_sections_that_cannot_be_are_refused(keys, said):
    with pytest.raises(ValidationError, match=said):
        ImageData(**keys)


def test_free_bits_and_the_bound_of_several_samples_exclude_each_other():
    VaeImageTrial(train_samples=5)
    VaeImageTrial(free_bits=0.1)
    with pytest.raises(ValidationError, match=r"free_bits=0\.1, train_samples=5"):
        VaeImageTrial(train_samples=5, free_bits=0.1)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"likelihood": "none"}, "leaves distances alone: one of `l1_weight`, `ssim_weight`"),
        ({"scales": 2, "spectral_weight": 1.0}, r"`scales` are those of `l1_weight` and `ssim_weight`.*scales=2"),
        ({"train_samples": 2, "l1_weight": 1.0}, r"one of a likelihood alone.*train_samples=2, l1"),
    ],
)
def test_losses_that_cannot_be_are_refused(keys, said):
    with pytest.raises(ValidationError, match=said):
        VaeImageTrial(**keys)


def test_a_distance_that_images_are_too_small_for_is_refused():
    data = ImageData(images="patches_grey", px=32, binarise="none")
    keys = {"likelihood": "none", "ssim_weight": 1.0, "network": "residual"}
    data.check(VaeImageTrial(**keys, scales=2))
    with pytest.raises(ValueError, match=r"SSIM needs 11 px at its smallest scale, but got \(px=32, scales=3\)"):
        data.check(VaeImageTrial(**keys, scales=3))
    with pytest.raises(ValueError, match=r"`px` must be 32, 64, .*but got 40; nearest: 32"):
        ImageData(images="patches_grey", px=40, binarise="none").check(VaeImageTrial(**keys))


def test_what_is_not_said_is_the_collections():
    assert (ImageData().side, ImageData().colours) == (28, 1)
    grey = ImageData(images="folder", root="x", px=128, channels=1, binarise="none")
    assert (grey.side, grey.colours, grey.uses_actors) == (128, 1, True)
    assert not ImageData().uses_actors


def test_sides_that_cannot_be_halved_so_often_are_refused_with_what_can():
    data = ImageData(images="patches_grey", px=40, binarise="none")
    data.check(VaeImageTrial(likelihood="logistic", levels=3))
    data.check(VaeImageTrial(likelihood="logistic", levels=4, network="mlp"))
    with pytest.raises(ValueError, match="`images: patches_grey`: `px` must be a multiple of 16") as caught:
        data.check(VaeImageTrial(likelihood="logistic", levels=4))
    assert "halved 3 times" in str(caught.value)


@pytest.mark.parametrize(("space", "images"), [("vae_mnist", "mnist_5k"), ("vae_cifar10", "patches")])
def test_an_objective_of_other_pixels_is_refused_with_those_of_these(space, images):
    other = {"vae_mnist": "val/bpd", "vae_cifar10": "val/nll"}[space]
    own = {"vae_mnist": "val/nll", "vae_cifar10": "val/bpd"}[space]
    assert load(space).objective.metric == own
    with pytest.raises(SpaceError, match=f"'{other}' is not measured on such data; valid: {own}"):
        load(space, [f"objective.metric={other}"])


def test_diagnostics_are_no_objectives():
    with pytest.raises(SpaceError, match="'val/psnr' is a diagnostic"):
        load("vae_cifar10", ["objective.metric=val/psnr", "objective.mode=max"])
