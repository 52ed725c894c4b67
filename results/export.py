"""The exported winner: weights and configuration as the model writes them, with a card for people, put in place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from results.run_directory import RunDirectory, RunError, Summary
from results.tables import METHODS, METRIC_TITLES, number
from spaces.study import PsfData

# What a reader asks first is how far the model is from interpolation.
ORDER = ("best", "rbf_cubic", "bilinear", "nearest", "document")


def export_model(run: RunDirectory, write: Callable[[Path], None], card: str) -> Path:
    """Fill `model/` of a run: `write(directory)` puts the model's files there, `card` becomes card.md.

    A reader sees the earlier export or the new one whole: the files are written aside and the directory is swapped.

    Returns:
        The directory.

    Raises:
        RunError: it cannot be written, such as on a full disk; an earlier export is kept.
    """
    partial = run.path / f".model.{os.getpid()}"
    replaced = run.path / f".model.{os.getpid()}.old"
    try:
        partial.mkdir(parents=True)
        write(partial)
        (partial / "card.md").write_text(card)
        if run.model.exists():
            run.model.rename(replaced)
        partial.rename(run.model)
    except OSError as error:
        if replaced.exists() and not run.model.exists():
            replaced.rename(run.model)
        raise RunError(f"{run.model}: the model cannot be exported: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    return run.model


def model_card(run: RunDirectory, summary: Summary) -> str:
    """The card in Markdown: what the model is, its units, how to use it, its test numbers, and where it ends."""
    record = run.read_record()
    data = record.resolved_study().data
    best = summary.best
    lines = [
        f"# PSF model of {record.lens.name}",
        "",
        f"A conditional VAE that gives the point spread function of this lens at any field position, trained on "
        f"ray-traced kernels at {_grid(data)}. It is trial {best.number} of run `{record.name}` "
        f"(space `{record.space}`, preset `{record.preset}`, seed {record.seed}), at step {best.step}.",
        "",
        "## Use",
        "```python",
        "import torch",
        "from trainables.vae import load_exported",
        f"kernels = load_exported({str(run.model)!r}).predict({_example(data)})",
        "```",
        "",
        "## Units",
        *_units(data),
        "",
        "## Test",
        f"Means over {data.kernels()['test']} sealed positions off the training grid, each traced with "
        f"{data.held_out_rays:,} rays per wavelength; they were read only after this trial had been chosen.",
        "",
        *_test_table(summary),
        "",
        "Centroid and radius errors are in kernel pixels. *Documents' values* is the same network with the source "
        "document's recommended hyperparameters, trained for the same number of steps.",
        "",
        "## Hyperparameters",
        "| name | value |",
        "|---|---|",
        *(f"| {name} | {number(value)} |" for name, value in best.params.items()),
        "",
        "## Limits",
        *_limits(data),
        "",
        "## Provenance",
        f"- lens file sha256 `{record.lens.sha256}`",
        f"- started {record.started.isoformat(timespec='seconds')}: `{' '.join(record.command)}`",
        f"- {', '.join(f'{name} {version}' for name, version in sorted(record.versions.items()))}",
    ]
    return "\n".join(lines) + "\n"


def _grid(data: PsfData) -> str:
    between = data.stream is not None
    places = "random field points" if between else f"{data.grid[0]} x {data.grid[1]} field points"
    focus = f", focused at {_listed(data.focus_mm, between)} mm" if data.focus_mm else ""
    return f"{places} and object depth {_listed(data.depths_mm, between)} mm{focus}"


def _listed(distances: tuple[float, ...], between: bool) -> str:
    if between and len(distances) > 1:
        return f"between {min(distances):g} and {max(distances):g}"
    return ", ".join(f"{distance:g}" for distance in distances)


def _example(data: PsfData) -> str:
    distances = {"depth_mm": data.depths_mm, "focus_mm": data.focus_mm}
    point = ["0.0", "0.5", *(f"{distances[name][0]:.1f}" for name in data.conditions[2:])]
    return f"torch.tensor([[{', '.join(point)}]])"


def _units(data: PsfData) -> list[str]:
    pixel = data.pixel_pitch_um * data.trace_px / data.kernel_px
    wavelengths = ", ".join("+".join(f"{wavelength:g}" for wavelength, _ in channel) for channel in data.channels())
    return [
        f"- in: field points [N, {len(data.conditions)}] = {', '.join(data.conditions)}; x right and y up, normalised to "
        f"half the sensor's width and height, in [-1, 1]{'; distances in mm, negative' if data.conditions[2:] else ''}",
        f"- out: kernels [N, {len(data.wavelengths_um)}, {data.kernel_px}, {data.kernel_px}], each channel sums to one; "
        f"channels at {wavelengths} um, in this order",
        f"- one kernel pixel is {pixel:.4g} um on the sensor ({data.trace_px} sensor pixels of {data.pixel_pitch_um:g} um, "
        f"area-pooled to {data.kernel_px}); row 0 is the top (+y) of the upright image",
    ]


def _test_table(summary: Summary) -> list[str]:
    metrics = [name for name in METRIC_TITLES if any(name in values for values in summary.test.values())]
    lines = [f"| | {' | '.join(METRIC_TITLES[name] for name in metrics)} |", f"|---|{'---:|' * len(metrics)}"]
    for method in (name for name in ORDER if name in summary.test):
        title = "**this model**" if method == "best" else METHODS[method]
        cells = (number(summary.test[method][name]) if name in summary.test[method] else "-" for name in metrics)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _limits(data: PsfData) -> list[str]:
    ranges = []
    for what, distances in (("object depth", data.depths_mm), ("focus distance", data.focus_mm)):
        if len(distances) > 1:
            ranges.append(
                f"- Each {what} between {min(distances):g} and {max(distances):g} mm; outside, it extrapolates."
            )
        else:
            one = f"{distances[0]:g} mm" if distances else "as in the lens file"
            ranges.append(f"- One {what} ({one}); others are not modelled.")
    optics = (
        "Geometric rays: no diffraction." if data.psf_model == "geometric" else f"DeepLens' {data.psf_model} model."
    )
    centre = "chief ray of the primary wavelength, so" if data.recenter else "ideal image point:"
    place = "is not in them" if data.recenter else "shifts them"
    return [
        f"- One lens as designed: no tolerances, no other aperture. {optics}",
        *ranges,
        "- Field points in [-1, 1]; outside, it extrapolates.",
        f"- Kernels are centred on the {centre} distortion {place}, and light outside the traced window is left out.",
        "- `predict` is the mean path decode(mu_prior(c)); spread between `sample` draws is no measure of its error.",
    ]
