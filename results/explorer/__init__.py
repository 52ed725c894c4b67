"""The explorer of a run's report: a section of HTML in which a reader plays with the winner, which runs in the page.

    section(run_directory) -> str | None

`network.js` runs the model, `optics.js` has what optics asks of a kernel, `field.js` and `images.js` are the two views.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from results.explorer import file
from results.explorer.packing import Kind, Packed, pack
from results.run_directory import RunDirectory, RunError
from spaces.explorer import Explorer

__all__ = ["section"]

HERE = Path(__file__).parent
MOST_BYTES = 18_900_000
"""Of the section, so that a report with its figures stays under 20 MB."""
SCRIPTS = {
    "field": ("network.js", "kernels.js", "optics.js", "controls.js", "lens.js", "map.js", "field.js"),
    "images": ("network.js", "optics.js", "controls.js", "images.js"),
}
"""Of each view, in the order in which they need each other."""
PRECISIONS: tuple[tuple[Kind, str], ...] = (("f16", "weights in float16"), ("q12", "weights in 12 bits"))


def section(run_directory: Path, most_bytes: int = MOST_BYTES) -> str | None:
    """`<section id="explorer">` with its script and style, for a page that allows inline ones; None: the run has none.

    The weights are those of the exported model in float16; in 12 bits if the section would have more bytes than it may, and if
    that is too much as well the page has kernels on a grid, or its held-out items alone, and says so.

    Raises:
        RunError: a file of the run is damaged.
    """
    run = RunDirectory(run_directory)
    if not run.explorer.exists():
        return None
    explorer = file.read(run.explorer)
    exported = run.model / "model.safetensors"
    weights = file.tensors(exported)[0]
    if missing := [
        name for name, _ in _named(explorer.description.get("model")) if name not in {*weights, *explorer.arrays}
    ]:
        raise RunError(
            f"{exported}: has no tensor '{missing[0]}', which {run.explorer.name} names; make that by `psf-search figures`"
        )
    model = explorer.description.get("model")
    if model is not None:
        for kind, words in PRECISIONS:
            made = _html(explorer, {"runs": True, "precision": words}, pack(_arrays(explorer, weights, kind)))
            if len(made) <= most_bytes:
                return made
    return _html(explorer, {"runs": False, "precision": ""}, pack(_arrays(explorer, {}, "f16")))


def _arrays(
    explorer: Explorer, weights: Mapping[str, NDArray[Any]], kind: Kind
) -> dict[str, tuple[Kind, NDArray[Any]]]:
    """What a page needs, by name: the explorer's arrays, and the model's weights that its layers name, if there are any."""
    found: dict[str, tuple[Kind, NDArray[Any]]] = {}
    for name, rows in _named(explorer.description.get("model") if weights else None):
        if name not in explorer.arrays:
            array = weights[name][:rows] if rows else weights[name]
            found[name] = (kind if array.ndim > 1 else "f32", array)
    for name, array in explorer.arrays.items():
        if name == "grid" and weights:
            continue
        # Only kernels are many; places and latents keep their digits.
        found[name] = ("u8" if array.dtype == np.uint8 else "f16" if array.ndim > 3 else "f32", array)
    return found


def _named(part: Any) -> Iterator[tuple[str, int | None]]:
    """Names of the tensors in a description of layers, and how many of their rows are used; None: all."""
    if isinstance(part, dict):
        for name in part.get("weights", {}).values():
            yield name, part.get("rows")
        for one in part.values():
            yield from _named(one)
    elif isinstance(part, list):
        for one in part:
            yield from _named(one)


def _html(explorer: Explorer, how: dict[str, Any], packed: Packed) -> str:
    templates = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    said = {**explorer.description, **how, "index": packed.index}
    return templates.get_template("section.html").render(
        view=explorer.view,
        said=said,
        style=(HERE / "explorer.css").read_text(),
        scripts=[(HERE / name).read_text() for name in SCRIPTS[explorer.view]],
        # `</script>` in a text would end the script.
        description=json.dumps(said).replace("<", "\\u003c"),
        data=packed.text,
    )
