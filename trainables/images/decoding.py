"""Image files of any size and kind as uint8 arrays of one size, in this process or by Ray tasks: the same bytes either way.

Shape legend: N = images, C = channel, H, W = pixels.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spaces.errors import SpaceError
from trainables.images.source import LEAST, Layout, Pictures

CHUNK = 128
"""Files of a task: a second of work, long against what a task costs."""
IN_FLIGHT = 2
"""Tasks for each CPU: one at work, one waiting."""
SIGNALS_SEEN = 1.0
"""Seconds between two looks at whether a signal has come."""
WHITE = (255, 255, 255, 255)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


class Unreadable(ValueError):
    """A file that no image can be made of; the message names it."""


class LeftOut(NamedTuple):
    """A file that is in no set, and why."""

    name: str
    why: str


def decode(path: Path, layout: Layout) -> NDArray[np.uint8]:
    """A picture as [C, px, px]: turned as its EXIF data says, over white where it is transparent, its middle cut out and scaled.

    Of several frames the first is taken. 16 bits are rounded to 8; of wider numbers it is not known which is white. Scaling is
    bilinear over the area that a pixel covers, as torchvision's `Resize` does with PIL images.

    Raises:
        Unreadable: the file is no picture, is damaged, or is too small.
    """
    try:
        with Image.open(path) as image:
            picture = _in_mode(ImageOps.exif_transpose(image), "RGB" if layout.channels == 3 else "L")
    except FileNotFoundError:
        raise SpaceError(
            f"{path}: is not there any more, or not on every machine; all that prepare data need the same files"
        ) from None
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{path}: cannot be read: {_first_line(error)}") from None
    width, height = picture.size
    if layout.size not in (None, picture.size):
        assert layout.size is not None
        raise Unreadable(f"{path}: {width} x {height} pixels, not {layout.size[0]} x {layout.size[1]}")
    side = layout.crop or min(width, height)
    if side < layout.px:
        raise Unreadable(f"{path}: {width} x {height} pixels, too small for {layout.px} x {layout.px}")
    left, top = round((width - side) / 2), round((height - side) / 2)
    square = picture.crop((left, top, left + side, top + side))
    if side != layout.px:
        square = square.resize((layout.px, layout.px), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.atleast_3d(np.asarray(square)).transpose(2, 0, 1))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """As RGB, or as luminance (ITU-R 601)."""
    if image.mode in SIXTEEN_BITS:
        levels = (np.asarray(image).astype(np.uint32) + 128) // 257
        return Image.fromarray(levels.astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise Unreadable(f"pixels of mode {image.mode}, 32 bits, of which it is not known what is white")
    if image.has_transparency_data:
        over = Image.new("RGBA", image.size, WHITE)
        over.alpha_composite(image.convert("RGBA"))
        image = over
    return image.convert("RGB").convert(mode) if mode == "L" and image.mode != "L" else image.convert(mode)


def decode_files(paths: tuple[Path, ...], layout: Layout, whole: bool) -> tuple[NDArray[np.uint8], list[LeftOut]]:
    """Images [n, C, px, px] of those that can be read, in order, and the others.

    Raises:
        SpaceError: one cannot be read, and `whole`.
    """
    images, others = [], []
    for path in paths:
        try:
            images.append(decode(path, layout))
        except Unreadable as error:
            if whole:
                raise SpaceError(str(error)) from None
            others.append(LeftOut(path.name, str(error).removeprefix(f"{path}: ")))
    shape = (len(images), layout.channels, layout.px, layout.px)
    return np.array(images, np.uint8).reshape(shape), others


def decode_into(
    file: BinaryIO, pictures: Pictures, actors: int, done: Callable[[int], None]
) -> tuple[NDArray[np.uint8], list[LeftOut]]:
    """Write the images of a set to a file, and give them memory-mapped, [N, C, px, px], with those that are left out.

    Args:
        actors: tasks at a time, on a CPU each; 0 works in this process.
        done: told how many files more are through.

    Raises:
        SpaceError: as `decode_files`, or too few files can be read.
    """
    layout, count, others = pictures.layout, 0, list[LeftOut]()
    for images, left_out in (_by_tasks if actors else _here)(pictures, actors):
        file.write(images.tobytes())
        count += len(images)
        others += left_out
        done(len(images) + len(left_out))
    if others and count < LEAST:
        raise SpaceError(
            f"{pictures.files[0].parent}: {count or 'none'} of {len(pictures.files):,} pictures can be used; the first that "
            f"cannot, {others[0].name}: {others[0].why}"
        )
    file.flush()
    shape = (count, layout.channels, layout.px, layout.px)
    return np.memmap(file, np.uint8, mode="r", shape=shape), others


type Chunk = tuple[NDArray[np.uint8], list[LeftOut]]


def _here(pictures: Pictures, actors: int) -> Iterator[Chunk]:
    for paths in itertools.batched(pictures.files, CHUNK):
        yield decode_files(paths, pictures.layout, pictures.whole)


def _by_tasks(pictures: Pictures, actors: int) -> Iterator[Chunk]:
    """Chunks in order. Ray runs a task again whose worker died."""
    import ray

    task = ray.remote(num_cpus=1)(decode_files)
    waiting, busy = itertools.batched(pictures.files, CHUNK), deque[Any]()
    try:
        while True:
            for paths in itertools.islice(waiting, IN_FLIGHT * actors - len(busy)):
                busy.append(task.remote(paths, pictures.layout, pictures.whole))
            if not busy:
                return
            while not ray.wait([busy[0]], timeout=SIGNALS_SEEN)[0]:
                pass
            try:
                yield ray.get(busy.popleft())
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, SpaceError) else error) from None
    finally:
        for reference in busy:
            ray.cancel(reference, force=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
