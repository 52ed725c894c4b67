"""Image sets as tensors on a device, and the pixels that a likelihood is one of.

Shape legend: N = images, B = batch, C = channel, H, W = pixels, R = rectangles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from deeplens_workers.threads import one_thread
from spaces import store
from spaces.seeding import named_seed
from trainables.images import vgg
from trainables.images.frechet import FITTED_IMAGES, Components, fit_components
from trainables.images.photographs import COLOURED, GREY
from trainables.images.ppca import Ppca, fit
from trainables.training.perceptual import TENSORS, Vgg16

Space = Literal["binary", "unit", "levels"]
LEVELS = 256
CLASSES = {
    "fashion_mnist": ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "cifar10": ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry"),
    "patches": tuple(name.partition(".")[0] for name in COLOURED),
    "patches_grey": tuple(name.partition(".")[0] for name in GREY),
}
"""What labels mean, where they are not digits or numbers of people."""
HELD_OUT_SEED = 0
"""Of the noise that makes held-out levels continuous: every report and every run sees the same."""
CALIBRATION_IMAGES = 512
"""Training images to which the variance of a score is fitted (trainables/images/objective.py)."""
CHUNK = 4096
"""Images that are made pixels at once."""
MOST_CROPS = 20_000
"""Training crops, where any can be cut out, that stand for all in what is fitted in closed form."""
LEAST_FITTED = 256
"""Latents that the linear part of a network has at the least before it is cut to those asked for."""
SAMPLE_SEED = 0
"""Of the crops that stand for all training crops where one sample of them is looked at."""


@dataclass(frozen=True)
class ImageSplit:
    """One set.

    `images` [N, C, H, W] are uint8: 0 and 1 if `binary`, levels up to 255 otherwise. The levels of a `dynamic` set are the
    probabilities, in 255ths, with which a pixel is 1 whenever it is drawn. `labels` [N], indices of `classes` if these have
    names, are on the CPU.
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

    @property
    def of_bits(self) -> bool:
        """Whether pixels are 0 or 1, for good or whenever they are drawn."""
        return self.binary or self.dynamic

    def needs_chance(self, space: Space) -> bool:
        """Whether `as_pixels` takes random numbers."""
        return self.dynamic or space == "unit"

    def as_pixels(self, images: Tensor, space: Space, chance: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] of this set, uint8, in float32 with values in [0, 1], as a likelihood of that space has them.

        binary: 0 or 1, of a dynamic set by chance. levels: 0, 1/255, ..., 1. unit: (level + chance) / 256, so that the mean
        log-density bounds the log-mass of the level from below (Theis et al. 2016, section 3.1).

        Args:
            chance: [B, C, H, W] even in [0, 1), where `needs_chance`.

        Raises:
            ValueError: the set's pixels are not of that space.
        """
        if (space == "binary") != self.of_bits:
            have = "0s and 1s" if self.of_bits else "grey levels"
            raise ValueError(f"the likelihood is one of '{space}' pixels, but the images are of {have}")
        values = images.float()
        if self.dynamic:
            assert chance is not None
            return (chance * (LEVELS - 1) < values).float()
        if space == "unit":
            assert chance is not None
            return (values + chance) / LEVELS
        return values if space == "binary" else values / (LEVELS - 1)

    def fixed_pixels(self, space: Space) -> Tensor:
        """All its images [N, C, H, W] as `as_pixels` has them, with chances that are always the same, on every device."""
        chance = None
        if self.needs_chance(space):
            generator = torch.Generator().manual_seed(named_seed(HELD_OUT_SEED, "chance"))
            chance = torch.rand(self.images.shape, generator=generator).to(self.images.device)
        return self.as_pixels(self.images, space, chance)

    def chunks(self, space: Space) -> Iterator[Tensor]:
        """All its images as `as_pixels` has them, [n, D] at a time on the CPU, each drawn once with chances that are always the same."""
        generator = torch.Generator().manual_seed(named_seed(HELD_OUT_SEED, "chunks"))
        for images in self.images.split(CHUNK):
            chance = torch.rand(images.shape, generator=generator) if self.needs_chance(space) else None
            yield self.as_pixels(images.cpu(), space, chance).flatten(1)


@dataclass(frozen=True)
class TrainingImages:
    """What batches are drawn from: the images of a set, or every crop of `px` x `px` that lies in one of its `windows`.

    Args:
        whole: the set. With windows it is one image that holds photographs side by side, and its labels [R] are the windows'.
        px: side of what is drawn.
        windows: [R, 4] int64 on the set's device: top, left, height, width in pixels.
        flip: every second is mirrored left to right, by chance.
        shift: each is moved by up to so many pixels each way; what comes in at an edge mirrors what is inside it.
    """

    whole: ImageSplit
    px: int
    windows: Tensor | None = None
    flip: bool = False
    shift: int = 0

    @classmethod
    def load(cls, entry: str, device: str | torch.device = "cpu") -> Self:
        """A prepared training set."""
        directory, parameters = Path(entry), store.manifest(Path(entry))["parameters"]
        whole, windows = ImageSplit.load(entry, device), directory / "windows.npy"
        if not windows.is_file():
            return cls(whole, whole.shape[2], flip=parameters["flip"], shift=parameters["shift"])
        of = torch.from_numpy(np.load(windows)).long().to(device)
        return cls(whole, parameters["px"], of, flip=parameters["flip"])

    def __len__(self) -> int:
        return self._crops[1] if self.windows is not None else len(self.whole)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of what is drawn."""
        channels, height, width = self.whole.shape
        return (channels, self.px, self.px) if self.windows is not None else (channels, height, width)

    @property
    def device(self) -> torch.device:
        return self.whole.images.device

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Where B images lie, [B, 4] int64 on the generator's device: number, top and left in pixels, whether mirrored."""
        if self.windows is None:
            which = _below(len(self.whole), batch, generator)
            top, left = (_below(2 * self.shift + 1, batch, generator) - self.shift for _ in range(2))
        else:
            which = _below(1, batch, generator)
            top, left = self._in_windows(batch, generator)
        return torch.stack([which, top, left, _below(1 + self.flip, batch, generator)], dim=1)

    def images(self, places: Tensor) -> Tensor:
        """The images [B, C, H, W] at places [B, 4], uint8."""
        which, top, left, mirrored = places.unbind(dim=1)
        if self.windows is not None:
            images = self._every_crop[:, top, left].transpose(0, 1).contiguous()
        elif self.shift:
            images = self._moved(which, top, left)
        else:
            images = self.whole.images[which]
        return torch.where(mirrored.bool()[:, None, None, None], images.flip(3), images) if self.flip else images

    def pixels(self, places: Tensor, space: Space, chance: Tensor | None = None) -> Tensor:
        """The images at places [B, 4] as `ImageSplit.as_pixels` has them."""
        return self.whole.as_pixels(self.images(places), space, chance)

    def needs_chance(self, space: Space) -> bool:
        """Whether `pixels` takes random numbers."""
        return self.whole.needs_chance(space)

    def sample(self, count: int) -> ImageSplit:
        """Images that stand for all: the first, as they are, or crops drawn as for training; always the same ones."""
        if self.windows is None:
            return self.whole.first(count)
        generator = torch.Generator().manual_seed(named_seed(SAMPLE_SEED, "crops"))
        places = replace(self, windows=self.windows.cpu()).draw(count, generator)
        labels = torch.zeros(count, dtype=torch.long)
        return replace(self.whole, images=self.images(places.to(self.device)), labels=labels)

    @cached_property
    def _crops(self) -> tuple[Tensor, int]:
        """How many crops the windows up to each one have, [R], and all."""
        assert self.windows is not None
        ends = (self.windows[:, 2:] - self.px + 1).prod(dim=1).cumsum(dim=0)
        return ends, int(ends[-1])

    @cached_property
    def _every_crop(self) -> Tensor:
        """A view of the photographs, [C, top, left, px, px]."""
        return self.whole.images[0].unfold(1, self.px, 1).unfold(2, self.px, 1)

    def _moved(self, which: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Images [B, C, H, W], moved by [B] pixels."""
        channels, height, width = self.shape
        rows, columns = (
            reflected(start[:, None] + torch.arange(size, device=start.device), size)
            for start, size in ((top, height), (left, width))
        )
        channel = torch.arange(channels, device=which.device)[:, None, None]
        return self.whole.images[which[:, None, None, None], channel, rows[:, None, :, None], columns[:, None, None]]

    def _in_windows(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Top and left [B] of crops, all equally probable."""
        assert self.windows is not None
        ends, total = self._crops
        number = _below(total, batch, generator)
        window = torch.searchsorted(ends, number, right=True)
        place = ends[window] - 1 - number  # in the window, counted from its last crop
        top, left, _, width = self.windows[window].unbind(dim=1)
        across = width - self.px + 1
        return top + place // across, left + place % across


def _below(limit: int, batch: int, generator: torch.Generator) -> Tensor:
    """[B] of 0 to limit - 1; nothing is drawn of one number."""
    if limit == 1:
        return torch.zeros(batch, dtype=torch.long, device=generator.device)
    return torch.randint(limit, (batch,), generator=generator, device=generator.device)


def reflected(places: Tensor, size: int) -> Tensor:
    """Places of an axis, of which those up to `size` - 1 outside are mirrored at its first and last."""
    last = size - 1
    return last - (last - places.abs()).abs()


@dataclass(frozen=True)
class ImageTensors:
    """What trials train on and are judged by, and what a perceptual distance needs if the space has its weights."""

    train: TrainingImages
    validation: ImageSplit
    vgg: Vgg16 | None = None
    _fitted: dict[tuple[Space, int], Ppca] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, sets: Mapping[str, str], device: str | torch.device = "cpu") -> Self:
        """The prepared sets of a run."""
        features = None
        if (entry := sets.get(vgg.SET)) is not None:
            weights = store.read(Path(entry), TENSORS)
            features = Vgg16({name: torch.from_numpy(array.copy()) for name, array in weights.items()}, device)
        return cls(TrainingImages.load(sets["train"], device), ImageSplit.load(sets["validation"], device), features)

    @property
    def device(self) -> torch.device:
        return self.train.device

    @cached_property
    def calibration(self) -> ImageSplit:
        """The training images that a score's variance is fitted to."""
        return self.train.sample(CALIBRATION_IMAGES)

    @cached_property
    def components(self) -> Components:
        """Principal components of training images."""
        sample = self.train.sample(FITTED_IMAGES)
        return fit_components(sample.fixed_pixels("binary" if sample.of_bits else "levels"))

    def ppca(self, space: Space, latents: int) -> Ppca:
        """Probabilistic PCA of training images as pixels of that space, with as many latents as a quarter of the images at the most: with
        more it would leave no noise. Fitted once for all numbers of latents that are alike."""
        most = max(LEAST_FITTED, 1 << (latents - 1).bit_length())
        if (space, most) not in self._fitted:
            sample = self.train.sample(MOST_CROPS)
            with one_thread():
                self._fitted[space, most] = fit(sample.chunks(space), min(most, len(sample) // 4))
        return self._fitted[space, most].cut(latents)


def nats_of_levels(space: Space, elements: int) -> float:
    """What turns -log of a density of continuous pixels into -log of a mass of the 256 levels: D log 256 nats, else 0."""
    return elements * math.log(LEVELS) if space == "unit" else 0.0
