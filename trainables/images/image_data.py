"""Typed model of an image data set: which pictures a study trains on and is judged by, and what their pixels are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from spaces.system import DataSection
from spaces.trial import Trial
from trainables.images.trial import SPACES, VaeImageTrial


@dataclass(frozen=True)
class Collection:
    """What is known of a collection without its files.

    Args:
        px, channels: of its images, or what they are made to unless `data` says otherwise.
        packaged: read from an installed package; the others from `root`.
        pictures: of any size, of which `px` says what is made.
        decoded: of image files one by one, by Ray tasks; `channels` may be chosen.
        binarisable: drawings in black on white, of which a grey value can be a chance.
    """

    px: int
    channels: int
    packaged: bool = False
    pictures: bool = False
    decoded: bool = False
    binarisable: bool = False


# What `data.images` may name.
COLLECTIONS = {
    "mnist_5k": Collection(28, 1, packaged=True, binarisable=True),
    "mnist": Collection(28, 1, binarisable=True),
    "fashion_mnist": Collection(28, 1, binarisable=True),
    "cifar10": Collection(32, 3),
    "patches": Collection(32, 3, packaged=True, pictures=True),
    "patches_grey": Collection(64, 1, packaged=True, pictures=True),
    "orl_faces": Collection(64, 1, packaged=True, pictures=True),
    "celeba": Collection(64, 3, pictures=True, decoded=True),
    "folder": Collection(64, 3, pictures=True, decoded=True),
}

VGG16_FILE = "vgg16-397923af.pth"
"""What torchvision calls the weights of ImageNet."""
LEAST_PX, MOST_PX = 8, 1024
OF_BITS, OF_LEVELS = ("val/nll",), ("val/bpd", "val/bpd_own")
"""Metrics of images of 0s and 1s only, and of 256 levels only."""


class ImageData(DataSection):
    """Images with labels, which no model sees. Nothing is downloaded: `root` is a folder that has the files.

    A set of images that comes in parts keeps them; of two, the last training images are the validation set (10,000 of MNIST's
    60,000, 5,000 of CIFAR-10's 50,000). The 5,000 digits are split 4,000, 500 and 500 by the run's seed, each class evenly;
    the faces 320, 40 and 40, by person. Of photographs every tenth column of blocks is test and the next one validation, and
    training crops lie anywhere between. How a `folder` is split docs/images.md says.

    Binarised, a pixel is 1 with the probability that is its grey value (Salakhutdinov & Murray 2008): once and for all
    (static), or anew in every batch (dynamic). Validation and test sets are static always.
    """

    images: Literal[
        "mnist_5k",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "patches",
        "patches_grey",
        "orl_faces",
        "celeba",
        "folder",
    ] = Field("mnist_5k", description="the collection; docs/images.md has what each is and where it comes from")
    root: str | None = Field(
        None, description="folder with the files of `images`, laid out as torchvision does or flat"
    )
    px: int | None = Field(
        None, ge=LEAST_PX, le=MOST_PX, description="side of the images that pictures or crops are made to"
    )
    channels: Literal[1, 3] | None = Field(None, description="1: luminance, 3: colours, of image files")
    flip: bool = Field(False, description="training images are mirrored left to right, every second by chance")
    shift: int = Field(
        0, ge=0, description="training images are moved by up to so many pixels each way; the edge is mirrored"
    )
    binarise: Literal["none", "static", "dynamic"] = Field("dynamic", description="none: 256 grey levels")
    vgg16: str | None = Field(
        None, description="file with VGG16's weights as torchvision has them, for perceptual_weight"
    )
    binarise_seed: int = Field(
        0, ge=0, lt=2**31, description="of static binarisation; the run's seed has no part in it"
    )

    @field_validator("root", "vgg16")
    @classmethod
    def _of_the_user(cls, path: str | None) -> str | None:
        """A shell leaves `~` in `--set data.root=~/pictures` as it is."""
        return None if path is None else os.path.expanduser(path)

    @model_validator(mode="after")
    def _check(self) -> Self:
        of, name = self.collection, f"`images: {self.images}`"
        if of.packaged and self.root is not None:
            raise ValueError(f"{name} comes with a package and takes no `root`, but got {self.root!r}")
        if not of.packaged and self.root is None:
            raise ValueError(
                f"{name} needs `root`, a folder with its files, as with --set data.root=DIR; nothing is downloaded"
            )
        if not of.pictures and self.px not in (None, of.px):
            raise ValueError(f"{name} has images of {of.px} pixels, which stay so: `px: {of.px}`, but got {self.px}")
        if not of.decoded and self.channels not in (None, of.channels):
            other = ", or `images: patches_grey`" if self.images == "patches" else ""
            raise ValueError(
                f"{name} has {of.channels} channel{'s' * (of.channels > 1)}: `channels: {of.channels}`{other}, "
                f"but got {self.channels}"
            )
        if not of.binarisable and self.binarise != "none":
            raise ValueError(
                f"{name} has pictures of grey levels or colours and needs `binarise: none`, but got {self.binarise!r}"
            )
        if self.shift >= self.side:
            raise ValueError(f"`shift < px` must hold, but got (shift={self.shift}, px={self.side})")
        return self

    @property
    def collection(self) -> Collection:
        """What is known of `images`."""
        return COLLECTIONS[self.images]

    @property
    def side(self) -> int:
        """Pixels along a side of an image."""
        return self.px or self.collection.px

    @property
    def colours(self) -> int:
        """Channels of an image."""
        return self.channels or self.collection.channels

    @property
    def uses_actors(self) -> bool:
        return self.collection.decoded

    def measures(self, metric: str) -> bool:
        return metric not in (OF_LEVELS if self.binarise != "none" else OF_BITS)

    def check(self, trial: Trial) -> None:
        """Whether a likelihood is one of such pixels, a network takes images of their size, and a loss has what it needs.

        Raises:
            ValueError: what it needs, and what would do.
        """
        assert isinstance(trial, VaeImageTrial)
        try:
            trial.check_px(self.side)
        except ValueError as error:
            raise ValueError(f"`images: {self.images}`: {error}") from None
        if trial.perceptual_weight and self.vgg16 is None:
            raise ValueError(
                "`perceptual_weight` above 0 needs `data.vgg16`, the path of VGG16's weights as torchvision names them "
                f"({VGG16_FILE}); nothing is downloaded"
            )
        binary = self.binarise != "none"
        if (SPACES[trial.likelihood] == "binary") == binary:
            return
        needed = "`data.binarise: none`" if binary else "`data.binarise: static` or `dynamic`"
        fitting = ", ".join(name for name, space in SPACES.items() if (space == "binary") == binary)
        raise ValueError(
            f"`likelihood: {trial.likelihood}` needs {needed}, but got (data.binarise={self.binarise}); "
            f"with this data: {fitting}"
        )
