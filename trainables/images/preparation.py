"""Image sets as a search prepares them: files read, split and binarised once, then found in the cache by their content.

This is done in the driver's process. 5,000 digits take 0.4 s and Fashion-MNIST's 70,000 images 1.0 s, most of it their
decompression, and a Ray actor takes as long to start; found in the cache and checked they take 0.06 s at most.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces import store
from spaces.seeding import named_seed
from spaces.system import Preparation, Prepared, Progress, Source
from trainables.images.image_data import ImageData
from trainables.images.sources import SOURCES, Labelled

VERSION = 1
"""Part of every key. Raise it when a change of this package changes the sets."""
SETS = ("train", "validation", "test")
IMAGES = "images prepared"


class ImagePreparation(Preparation[ImageData]):
    """The three sets of a collection of images."""

    def find(self, data: ImageData) -> Source:
        files = SOURCES[data.images].find(data.root)
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return Source(name=data.images, path=files[0].parent, sha256=digest.hexdigest())

    def resolved(self, data: ImageData, source: Source) -> ImageData:
        return data if data.root is None else data.model_copy(update={"root": str(Path(data.root).resolve())})

    def places(self, data: ImageData, source: Source, seed: int, cache: Path) -> dict[str, Path]:
        return {name: (cache / store.key(one)).resolve() for name, one in _parameters(data, source, seed).items()}

    def prepare(
        self, data: ImageData, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        places = self.places(data, source, seed, cache)
        warnings = tuple(warning for entry in places.values() if (warning := store.drop_if_corrupt(entry)))
        missing = [name for name, entry in places.items() if not entry.is_dir()]
        made = 0
        if missing:
            collection = SOURCES[data.images]
            parts = collection.read(collection.find(data.root), named_seed(seed, "split"))
            wanted = _parameters(data, source, seed)
            total = sum(len(parts[name].images) for name in missing)
            for name in missing:
                store.write(
                    cache,
                    wanted[name],
                    _arrays(parts[name], wanted[name]),
                    about={"source": {"name": source.name, "sha256": source.sha256}},
                )
                made += len(parts[name].images)
                if progress is not None:
                    progress(made, total, f"{made:,} images")
        store.evict(cache, keep=places.values())
        return Prepared({name: str(entry) for name, entry in places.items()}, {IMAGES: made}, warnings)

    def describe(self, data: ImageData, source: Source) -> dict[str, str]:
        pixels = "256 grey levels" if data.binarise == "none" else f"{data.binarise} binarisation"
        return {"images": f"{source.name} in {source.path} (sha256 {source.sha256[:12]})", "pixels": pixels}


def binarised(levels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Images of 0s and 1s, each pixel 1 with the probability that is its level / 255."""
    chance = np.random.default_rng(seed).random(levels.shape, dtype=np.float32)
    return (chance * 255 < levels).astype(np.uint8)


def _parameters(data: ImageData, source: Source, seed: int) -> dict[str, dict[str, Any]]:
    """What determines each set. `binary` pixels are 0 or 1; others are levels, which a `dynamic` set binarises in training."""
    found = {}
    for name in SETS:
        binary = data.binarise == "static" or (data.binarise == "dynamic" and name != "train")
        found[name] = {
            "version": VERSION,
            "images": data.images,
            "sha256": source.sha256,
            "set": name,
            "binary": binary,
            "binarise_seed": named_seed(data.binarise_seed, "binarise", name) if binary else None,
            "dynamic": data.binarise == "dynamic" and name == "train",
            "split_seed": seed if SOURCES[data.images].seeded else None,
        }
    return found


def _arrays(part: Labelled, parameters: dict[str, Any]) -> dict[str, NDArray[np.uint8]]:
    images = binarised(part.images, parameters["binarise_seed"]) if parameters["binary"] else part.images
    return {"images": np.ascontiguousarray(images), "labels": np.ascontiguousarray(part.labels)}
