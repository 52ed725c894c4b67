"""Image sets as tensors on a device, and the pixels that a likelihood is one of.

Shape legend: N = images, B = batch, C = channel, H, W = pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from spaces import store
from spaces.seeding import named_seed

Space = Literal["binary", "unit", "levels"]
LEVELS = 256
CLASSES = {
    "fashion_mnist": ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "cifar10": ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry"),
}
"""What labels mean, where they are not digits."""
HELD_OUT_SEED = 0
"""Of the noise that makes held-out levels continuous: every report and every run sees the same."""


@dataclass(frozen=True)
class ImageSplit:
    """One set.

    `images` [N, C, H, W] are uint8: 0 and 1 if `binary`, levels up to 255 otherwise. The levels of a `dynamic` set are the
    probabilities, in 255ths, with which a pixel is 1 whenever it is drawn. `labels` [N], indices of `classes` if these have names, are on the CPU.
    """

    images: Tensor
    labels: Tensor
    binary: bool
    dynamic: bool
    classes: tuple[str, ...] = ()

    @classmethod
    def load(cls, entry: str, device: str | torch.device = "cpu") -> Self:
        """A prepared set. On the CPU it is memory-mapped: processes share its pages."""
        directory, parameters = Path(entry), store.manifest(Path(entry))["parameters"]
        # Copy-on-write: torch wants a writable array, and nothing here writes.
        images = torch.from_numpy(np.load(directory / "images.npy", mmap_mode="c"))
        return cls(
            images=images.to(device),
            labels=torch.from_numpy(np.load(directory / "labels.npy")).long(),
            binary=parameters["binary"],
            dynamic=parameters["dynamic"],
            classes=CLASSES.get(parameters["images"], ()),
        )

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> ImageSplit:
        """Its first images, or all if it has fewer."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def elements(self) -> int:
        """Values of an image, D = C H W."""
        channels, height, width = self.shape
        return channels * height * width

    def needs_chance(self, space: Space) -> bool:
        """Whether `pixels` takes random numbers."""
        return self.dynamic or space == "unit"

    def pixels(self, index: Tensor, space: Space, chance: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] in float32, with values in [0, 1], as a likelihood of that space has them.

        binary: 0 or 1, of a dynamic set by chance. levels: 0, 1/255, ..., 1. unit: (level + chance) / 256, so that the mean
        log-density bounds the log-mass of the level from below (Theis et al. 2016, section 3.1).

        Args:
            chance: [B, C, H, W] even in [0, 1), where `needs_chance`.

        Raises:
            ValueError: the set's pixels are not of that space.
        """
        if (space == "binary") != (self.binary or self.dynamic):
            have = "0s and 1s" if self.binary or self.dynamic else "grey levels"
            raise ValueError(f"the likelihood is one of '{space}' pixels, but the images are of {have}")
        values = self.images[index].float()
        if self.dynamic:
            assert chance is not None
            return (chance * (LEVELS - 1) < values).float()
        if space == "unit":
            assert chance is not None
            return (values + chance) / LEVELS
        return values if space == "binary" else values / (LEVELS - 1)

    def fixed_pixels(self, space: Space) -> Tensor:
        """All its images [N, C, H, W] as `pixels` has them, with chances that are always the same, on every device."""
        chance = None
        if self.needs_chance(space):
            generator = torch.Generator().manual_seed(named_seed(HELD_OUT_SEED, "chance"))
            chance = torch.rand(self.images.shape, generator=generator).to(self.images.device)
        return self.pixels(torch.arange(len(self), device=self.images.device), space, chance)


@dataclass(frozen=True)
class ImageTensors:
    """What trials train on and are judged by."""

    train: ImageSplit
    validation: ImageSplit

    @classmethod
    def load(cls, sets: Mapping[str, str], device: str | torch.device = "cpu") -> Self:
        """The prepared sets of a run."""
        return cls(*(ImageSplit.load(sets[name], device) for name in ("train", "validation")))

    @property
    def device(self) -> torch.device:
        return self.train.images.device


def nats_of_levels(space: Space, elements: int) -> float:
    """What turns -log of a density of continuous pixels into -log of a mass of the 256 levels: D log 256 nats, else 0."""
    return elements * math.log(LEVELS) if space == "unit" else 0.0
