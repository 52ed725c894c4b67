"""An exported model, or one unit of it, as other programs are to have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deeplens_workers.lens_data import LensData
from deeplens_workers.measured import Measured
from results.run_directory import RunError
from search.exported import CONFIG, CONTENT, run_of
from search.unit_inputs import fitted
from spaces.errors import SpaceError
from spaces.system import system

if TYPE_CHECKING:
    from torch import nn

    from trainables.exports import Loaded
    from trainables.onnx_file import Graph
    from trainables.psf.model import PSFModel


@dataclass(frozen=True)
class Winner:
    """An exported model that has been loaded.

    Args:
        named: its directory as it was named.
        directory: of `search.exported.complete`, with the files that were read.
        model: what a user has of it, or of one unit.
    """

    named: Path
    directory: Path
    loaded: Loaded
    model: nn.Module

    @classmethod
    def load(cls, named: Path, directory: Path, unit: tuple[Path, Measured] | None = None) -> Self:
        """The model, or the unit of it that is fitted to the measured PSFs of a file.

        Raises:
            SpaceError: not an exported model, one that does not say what its kernels are of, or PSFs that do not suit it.
        """
        from trainables.exports import load

        loaded = load(directory)
        if unit is None:
            return cls(named, directory, loaded, loaded.model)
        if CONTENT not in loaded.record:
            raise _without_content(named)
        file, seen = unit
        network: Any = loaded.network
        return cls(named, directory, loaded, fitted(network, seen, file, None, None).psf_model())

    def psf_model(self) -> PSFModel:
        """A model of one lens' PSFs.

        Raises:
            SpaceError: it is none, and what would make it one.
        """
        from trainables.psf.model import PSFModel

        if isinstance(self.model, PSFModel):
            return self.model
        name = self.loaded.record["system"]
        if not issubclass(system(name).data, LensData):
            raise SpaceError(f"{self.named}: a model of {name} has no PSFs; valid for it: --to torch, --to onnx")
        if CONTENT not in self.loaded.record:
            raise _without_content(self.named)
        raise SpaceError(f"{self.named}: a model of many units; name the measured PSFs of one: --unit MEASURED")

    def graphs(self) -> dict[str, Graph]:
        """What ONNX files have of it, by name.

        Raises:
            SpaceError: it does not say what its kernels are of, or has no such files.
        """
        if found := self.loaded.learner.graphs(self.model):
            return found
        name = self.loaded.record["system"]
        if issubclass(system(name).data, LensData) and CONTENT not in self.loaded.record:
            raise _without_content(self.named)
        raise SpaceError(f"{self.named}: models of {name} have no ONNX files; valid for it: --to torch")


def _without_content(directory: Path) -> RunError:
    run = run_of(directory)
    if run is None:
        hint = "give the run that it is of, which knows"
    else:
        space = run.directory.read_record().space
        hint = f"its run was made by a version that did not write down the sensor; search again: --space {space}"
    return RunError(f"{directory / CONFIG}: does not say what the kernels are of (`{CONTENT}`); {hint}")
