from typing import get_args

import pytest
from pydantic import ValidationError

from trainables.images.image_data import ImageData
from trainables.images.trial import SPACES, Likelihood, VaeImageTrial


def test_every_likelihood_says_which_pixels_it_is_one_of():
    assert set(SPACES) == set(get_args(Likelihood))


@pytest.mark.parametrize("likelihood", list(SPACES))
@pytest.mark.parametrize("binarise", ["none", "static", "dynamic"])
def test_a_likelihood_that_does_not_fit_the_pixels_is_refused_in_one_line(likelihood, binarise):
    data, trial = ImageData(binarise=binarise), VaeImageTrial(likelihood=likelihood)
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
