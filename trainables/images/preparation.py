"""Image sets as a search prepares them: files read, split and binarised once, then found in the cache by their content.

Collections in arrays are read in the driver's process. 5,000 digits take 0.4 s and Fashion-MNIST's 70,000 images 1.0 s, most of
it their decompression, and a Ray actor takes as long to start; found in the cache and checked they take 0.06 s at most. Image
files are decoded by Ray tasks: at a millisecond each, 200,000 take minutes.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces import store
from spaces.disk import written
from spaces.seeding import named_seed
from spaces.system import Preparation, Prepared, Progress, Source
from trainables.images import vgg
from trainables.images.decoding import LeftOut, decode_into
from trainables.images.image_data import ImageData
from trainables.images.source import Labelled, Pictures
from trainables.images.sources import SOURCES

VERSION = 2
"""Part of every key. Raise it when a change of this package changes the sets."""
SETS = ("train", "validation", "test")
IMAGES = "images prepared"
READERS = 8
"""Threads that read files for their hash: storage answers several at a time."""
NAMED = 3
"""Files that are left out, by name in a warning."""


class ImagePreparation(Preparation[ImageData]):
    """The three sets of a collection of images."""

    def find(self, data: ImageData) -> Source:
        source = SOURCES[data.images]
        files = source.find(data.root)
        digest = hashlib.sha256()
        with ThreadPoolExecutor(READERS) as readers:
            for path, content in zip(files, readers.map(_sha256, files), strict=True):
                digest.update((path.relative_to(data.root).as_posix() if source.named and data.root else "").encode())
                digest.update(content)
        if data.vgg16 is not None:
            vgg.find_vgg16(data.vgg16)
        place = files[0].parent if data.root is None else Path(data.root)
        return Source(name=data.images, path=place, sha256=digest.hexdigest())

    def resolved(self, data: ImageData, source: Source) -> ImageData:
        paths = {"root": data.root, "vgg16": data.vgg16}
        return data.model_copy(
            update={key: str(Path(path).resolve()) for key, path in paths.items() if path is not None}
        )

    def places(self, data: ImageData, source: Source, seed: int, cache: Path) -> dict[str, Path]:
        wanted = _parameters(data, source, seed)
        if data.vgg16 is not None:
            wanted[vgg.SET] = vgg.parameters_of_vgg16(data.vgg16)
        return {name: (cache / store.key(one)).resolve() for name, one in wanted.items()}

    def prepare(
        self, data: ImageData, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        places = self.places(data, source, seed, cache)
        warnings = [warning for entry in places.values() if (warning := store.drop_if_corrupt(entry))]
        missing = [name for name, entry in places.items() if not entry.is_dir()]
        made = 0
        if vgg.SET in missing:
            assert data.vgg16 is not None
            missing.remove(vgg.SET)
            store.write(cache, vgg.parameters_of_vgg16(data.vgg16), vgg.read_vgg16(data.vgg16))
        if missing:
            collection = SOURCES[data.images]
            parts = collection.read(collection.find(data.root), data, named_seed(seed, "split"))
            told = _Told(sum(_count(parts[name]) for name in missing), progress)
            for name in missing:
                made += _make(parts[name], _parameters(data, source, seed)[name], source, cache, actors, told.more)
        store.evict(cache, keep=places.values())
        warnings += _left_out(places)
        sets = {name: str(entry) for name, entry in places.items()}
        # Images are there. Cutting them out takes seconds, and is not what a set of them costs.
        return Prepared(sets, {IMAGES: made}, tuple(warnings), dict.fromkeys(sets, 0.0))

    def describe(self, data: ImageData, source: Source) -> dict[str, str]:
        pixels = "256 levels" if data.binarise == "none" else f"{data.binarise} binarisation"
        changes = [f"shifted by up to {data.shift} pixels"] * bool(data.shift) + ["flipped"] * data.flip
        return {
            "images": f"{source.name} in {source.path} (sha256 {source.sha256[:12]})",
            "pixels": f"{pixels}{'; training images are ' + ' and '.join(changes) if changes else ''}",
            **({"VGG16": f"{data.vgg16} (sha256 {vgg.find_vgg16(data.vgg16)[:12]})"} if data.vgg16 is not None else {}),
        }


class _Told:
    """Progress of all sets together."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done, self._began = 0, time.monotonic()

    def more(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            rate = self._done / max(time.monotonic() - self._began, 1e-3)
            self._progress(self._done, self._total, f"{rate:,.0f} images/s")


def _make(
    part: Labelled | Pictures,
    parameters: dict[str, Any],
    source: Source,
    cache: Path,
    actors: int,
    done: Callable[[int], None],
) -> int:
    """Add a set to the cache; how many images it has."""
    about: dict[str, Any] = {"source": {"name": source.name, "sha256": source.sha256}}
    cache.mkdir(parents=True, exist_ok=True)
    # Decoded images of a large set are more than a machine's memory may be; the file has no name and goes with the process.
    with written(cache / "decoded images"), tempfile.TemporaryFile(dir=cache) as file:
        if isinstance(part, Pictures):
            images, others = decode_into(file, part, actors, done)
            about["left_out"] = [one._asdict() for one in others]
            part = Labelled(images, np.zeros(len(images), np.uint8))
        else:
            done(len(part.images))
        store.write(cache, parameters, _arrays(part, parameters), about=about)
    return len(part.images)


def _left_out(places: dict[str, Path]) -> list[str]:
    """Sentences on the files that could not be used, whenever that was."""
    found = []
    for name, entry in places.items():
        others = [LeftOut(**one) for one in store.manifest(entry).get("left_out", [])]
        if others:
            named = "; ".join(f"{one.name}: {one.why}" for one in others[:NAMED])
            more = f"; and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
            found.append(f"{len(others):,} of the {name} pictures are left out: {named}{more}")
    return found


def binarised(levels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Images of 0s and 1s, each pixel 1 with the probability that is its level / 255."""
    chance = np.random.default_rng(seed).random(levels.shape, dtype=np.float32)
    return (chance * 255 < levels).astype(np.uint8)


def _parameters(data: ImageData, source: Source, seed: int) -> dict[str, dict[str, Any]]:
    """What determines each set. `binary` pixels are 0 or 1; others are levels, which a `dynamic` set binarises in training.

    What a trial makes of a set, as flips of its images, is a part of it.
    """
    found = {}
    for name in SETS:
        binary = data.binarise == "static" or (data.binarise == "dynamic" and name != "train")
        found[name] = {
            "version": VERSION,
            "images": data.images,
            "sha256": source.sha256,
            "set": name,
            "px": data.side,
            "channels": data.colours,
            "binary": binary,
            "binarise_seed": named_seed(data.binarise_seed, "binarise", name) if binary else None,
            "dynamic": data.binarise == "dynamic" and name == "train",
            "flip": data.flip and name == "train",
            "shift": data.shift if name == "train" else 0,
            "split_seed": seed if SOURCES[data.images].seeded else None,
        }
    return found


def _arrays(part: Labelled, parameters: dict[str, Any]) -> dict[str, NDArray[Any]]:
    images = binarised(part.images, parameters["binarise_seed"]) if parameters["binary"] else part.images
    arrays: dict[str, NDArray[Any]] = {"images": np.ascontiguousarray(images), "labels": part.labels}
    return arrays if part.windows is None else {**arrays, "windows": part.windows}


def _count(part: Labelled | Pictures) -> int:
    return len(part.files) if isinstance(part, Pictures) else len(part.images)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
