"""No hyperparameter, and no choice of one, is left out of the tests that each of them does something."""

from typing import Any, Literal, get_args, get_origin

import pytest

from spaces.system import SYSTEMS, system
from tests.trainables.asbuilt.test_knobs import KNOBS as ASBUILT
from tests.trainables.asbuilt.test_knobs import TRIAL as ASBUILT_TRIAL
from tests.trainables.images.test_knobs import KNOBS as IMAGES
from tests.trainables.images.test_knobs import TRIAL as IMAGES_TRIAL
from tests.trainables.knobs import Knobs
from tests.trainables.training.small import TRIAL as PSF_TRIAL
from tests.trainables.training.test_knobs import KNOBS as PSF

# System -> its knobs, and the values that they are turned from.
TRIED: dict[str, tuple[Knobs, dict[str, Any]]] = {
    "cvae_psf": (PSF, PSF_TRIAL.model_dump()),
    "vae_image": (IMAGES, IMAGES_TRIAL),
    "cvae_asbuilt": (ASBUILT, ASBUILT_TRIAL),
}
# `auto` is one of the others, by the hardware; `bernoulli` takes other images than all the others.
LEFT_OUT = {("precision", "auto"), ("likelihood", "bernoulli")}


def test_every_system_has_its_knobs_turned():
    assert TRIED.keys() == SYSTEMS.keys()


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_hyperparameter_is_turned(name):
    assert TRIED[name][0].keys() == system(name).trial.model_fields.keys()


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_choice_is_tried(name):
    knobs, base = TRIED[name]
    trial = system(name).trial
    for field, declared in trial.model_fields.items():
        if get_origin(declared.annotation) is Literal or declared.annotation is bool:
            choices = get_args(declared.annotation) or (False, True)
            tried = {base.get(field, declared.default), *knobs[field][1]}
            missing = {(field, choice) for choice in choices} - {(field, one) for one in tried} - LEFT_OUT
            assert not missing
