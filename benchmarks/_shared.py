"""What benchmarks share: their options, each size with a tiny one for tests, and the main job's data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spaces.loading import load
from spaces.study import Study
from spaces.system import Source

TINY_POINTS = ("data.train_points=64", "data.test_points=3")
TINY_DATA = ("data.grid=[4, 4]", "data.rays=64", "data.held_out_rays=512", "data.validation_points=8")


class Options(argparse.ArgumentParser):
    """Options of a benchmark, described by its docstring.

    `--tiny` makes each size that is not given tiny: the whole code runs, for a test, and its figures say nothing.
    """

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--tiny", action="store_true", help="run the whole code as small as it goes")
        self._tiny: dict[str, Any] = {}

    def add_size(self, name: str, full: Any, tiny: Any, what: str) -> None:
        """An option for an integer, or for as many of them as there are by default."""
        several = len(full) if isinstance(full, tuple) else None
        action = self.add_argument(name, type=int, nargs=several, default=full, help=f"{what} (%(default)s)")
        self._tiny[action.dest] = tiny

    def parse(self) -> argparse.Namespace:
        if self.parse_known_args()[0].tiny:
            self.set_defaults(**self._tiny)
        return self.parse_args()


def the_study(tiny: bool, *overrides: str, space: str = "cvae_psf") -> tuple[Study, Source]:
    """The main job or another space, with what its data set takes from the lens file, and the lens."""
    tiny_data = (*TINY_DATA, *(TINY_POINTS if space == "vae_psf" else ()))
    study = load(space, [*overrides, *(tiny_data if tiny else ())])
    preparation = study.system.make_preparation()
    source = preparation.find(study.data)
    return study.model_copy(update={"data": preparation.resolved(study.data, source)}), source


def prepared(study: Study, source: Source, cache: Path, actors: int) -> dict[str, str]:
    """Paths of the sets of a study's data, rendered unless they are in the cache."""
    return study.system.make_preparation().prepare(study.data, source, study.seed, cache, actors).sets
