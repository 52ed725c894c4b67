"""Networks as ONNX files, for programs without torch or this project, such as those with ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spaces.files import replacing


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph.

    Args:
        name: in the file.
        free: names of its first dimensions, which may have any size.
        meaning: shape, units and ranges, in words.
    """

    name: str
    free: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Graph:
    """What a file computes.

    Args:
        module: is called with the inputs in their order, and returns a tensor or a tuple of them.
        inputs: with an example of each, of at least 2 in every free dimension.
        title: what it is, in a sentence.
        facts: what else a reader must know, by name.
    """

    module: nn.Module
    inputs: tuple[tuple[Port, Tensor], ...]
    outputs: tuple[Port, ...]
    title: str
    facts: Mapping[str, str]

    @property
    def ports(self) -> tuple[Port, ...]:
        """Inputs, then outputs."""
        return (*(port for port, _ in self.inputs), *self.outputs)


def write_onnx(path: Path, graph: Graph) -> None:
    """One file with the weights inside, whole or not at all; `metadata_props` and `doc_string` say what it is.

    The module is moved to the CPU, and in evaluation mode afterwards.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
        OSError: the path cannot be written.
    """
    with _quiet():
        program = torch.onnx.export(
            graph.module.cpu().eval(),
            tuple(example for _, example in graph.inputs),
            input_names=[port.name for port, _ in graph.inputs],
            output_names=[port.name for port in graph.outputs],
            dynamic_shapes=tuple(dict(enumerate(port.free)) for port, _ in graph.inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # where in the exporting machine's files each was called
    meanings = {port.name: port.meaning for port in graph.ports}
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.doc_string = meanings[value.name or ""]
    model.producer_name = "psf-search"
    model.doc_string = "\n".join([graph.title, *(f"{name}: {meaning}" for name, meaning in meanings.items())])
    model.metadata_props.clear()
    model.metadata_props.update({"title": graph.title, **meanings, **graph.facts})
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own steps."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
