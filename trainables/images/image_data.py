"""Typed model of an image data set: which pictures a study trains on and is judged by, and what their pixels are."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from spaces.system import DataSection
from spaces.trial import Trial
from trainables.images.trial import SPACES, VaeImageTrial

COLOURED = ("cifar10",)
SHIPPED = ("mnist_5k",)
"""Read from an installed package; the others from `root`."""


class ImageData(DataSection):
    """Images with labels, which no model sees. Nothing is downloaded: `root` is a folder that has the files.

    A set of images that comes in two parts keeps its test part, and its last training images are the validation set (10,000
    of MNIST's 60,000, 5,000 of CIFAR-10's 50,000). The 5,000 digits are split 4,000, 500 and 500 by the run's seed, each
    class evenly.

    Binarised, a pixel is 1 with the probability that is its grey value (Salakhutdinov & Murray 2008): once and for all
    (static), or anew in every batch (dynamic). Validation and test sets are static always.
    """

    images: Literal["mnist_5k", "mnist", "fashion_mnist", "cifar10"] = "mnist_5k"
    root: str | None = Field(
        None, description="folder with the files of `images`, laid out as torchvision does or flat"
    )
    binarise: Literal["none", "static", "dynamic"] = Field("dynamic", description="none: 256 grey levels")
    binarise_seed: int = Field(
        0, ge=0, lt=2**31, description="of static binarisation; the run's seed has no part in it"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.images in SHIPPED and self.root is not None:
            raise ValueError(f"`images: {self.images}` comes with a package and takes no `root`, but got {self.root!r}")
        if self.images not in SHIPPED and self.root is None:
            raise ValueError(f"`images: {self.images}` needs `root`, a folder with its files; nothing is downloaded")
        if self.images in COLOURED and self.binarise != "none":
            raise ValueError(
                f"`images: {self.images}` has colours and needs `binarise: none`, but got {self.binarise!r}"
            )
        return self

    def check(self, trial: Trial) -> None:
        """Whether a likelihood is one of such pixels.

        Raises:
            ValueError: what it needs, and what would do.
        """
        assert isinstance(trial, VaeImageTrial)
        binary = self.binarise != "none"
        if (SPACES[trial.likelihood] == "binary") == binary:
            return
        needed = "`data.binarise: none`" if binary else "`data.binarise: static` or `dynamic`"
        fitting = ", ".join(name for name, space in SPACES.items() if (space == "binary") == binary)
        raise ValueError(
            f"`likelihood: {trial.likelihood}` needs {needed}, but got (data.binarise={self.binarise}); "
            f"with this data: {fitting}"
        )
