"""The sealed test set of images, with the training images that scores are calibrated by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from trainables.images.data import CALIBRATION_IMAGES, ImageSplit, TrainingImages
from trainables.images.evaluation import TEST_IMAGES


@dataclass(frozen=True)
class ImageTest:
    """On the CPU. `calibration` are training images."""

    images: ImageSplit
    calibration: ImageSplit

    @classmethod
    def load(cls, sets: Mapping[str, str]) -> Self:
        """The first `TEST_IMAGES` of a run's test set."""
        images = ImageSplit.load(sets["test"]).first(TEST_IMAGES)
        return cls(images, TrainingImages.load(sets["train"]).sample(CALIBRATION_IMAGES))
