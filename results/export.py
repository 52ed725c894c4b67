"""The exported winner: weights and configuration as the model writes them, with a card for people, put in place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from deeplens_workers.psf_data import PsfData
from results.analysis import standings
from results.final_tables import METHODS, METRIC_TITLES, final_sentences
from results.formatting import decimals, interval, megabytes, microseconds, number
from results.run_directory import RunDirectory, RunError
from results.summary import BaselineResult, FinalistResult, Summary

# What a reader asks first is how far the model is from interpolation.
ORDER = ("best", "rbf_cubic", "pca_rbf", "bicubic", "bilinear", "nearest", "document")


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
    training = "" if best.seed is None else f", trained with fresh seed {best.seed}"
    lines = [
        f"# PSF model of {record.lens.name}",
        "",
        f"A conditional VAE that gives the point spread function of this lens at any field position, trained on "
        f"ray-traced kernels at {_grid(data)}. It is trial {best.number} of run `{record.name}` "
        f"(space `{record.space}`, preset `{record.preset}`, seed {record.seed}){training}, at step {best.step}.",
        "",
        "## Use",
        "```python",
        "import torch",
        "from trainables.psf.cvae import load_exported",
        f"kernels = load_exported({str(run.model)!r}).predict({_example(data)})",
        "```",
        "",
        "## Units",
        *_units(data),
        "",
        "## Test",
        f"Means over {data.kernels()['test']} sealed positions off the training grid, each traced with "
        f"{data.held_out_rays:,} rays per wavelength. {_when_read(summary)}",
        "",
        *_test_table(summary),
        "",
        *_final_lines(summary),
        "",
        "Centroid and radius errors are in kernel pixels. *Documents' values* is the same network with the source "
        "document's recommended hyperparameters, trained for the same number of steps. Size: what must be kept, the weights or "
        "the grid. Time: on the CPU, a model's on one thread.",
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


def _winner(summary: Summary) -> FinalistResult:
    return next(one for one in summary.final.finalists if one.number == summary.final.winner)


def _when_read(summary: Summary) -> str:
    """Whether the test positions had a part in the choice of the model, which makes its own numbers look better."""
    rivals = [one for one in summary.final.finalists if not one.recommended or one.number == summary.final.winner]
    if len(rivals) == 1:
        return "They were read only after this trial had been chosen."
    return (
        f"They were read once, when the {len(rivals)} finalists had been trained, and decided between them: the best of "
        "several that are alike looks slightly better than it is."
    )


def _test_table(summary: Summary) -> list[str]:
    metrics = [name for name in METRIC_TITLES if any(name in values for values in summary.test.values())]
    costs: dict[str, FinalistResult | BaselineResult] = {**summary.final.baselines, "best": _winner(summary)}
    if (document := next((one for one in summary.final.finalists if one.recommended), None)) is not None:
        costs["document"] = document
    titles = [*(METRIC_TITLES[name] for name in metrics), "size (MB)", "us per PSF"]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    trainings = len(_winner(summary).trainings)
    this = f"**this trial**, mean of {trainings} trainings" if trainings > 1 else "**this model**"
    for method in (name for name in ORDER if name in summary.test):
        cells = [number(summary.test[method][name]) if name in summary.test[method] else "-" for name in metrics]
        cost = costs.get(method)
        cells += [megabytes(cost.bytes), microseconds(cost.seconds_per_psf)] if cost is not None else ["-", "-"]
        lines.append(f"| {this if method == 'best' else METHODS[method]} | {' | '.join(cells)} |")
    return lines


def _final_lines(summary: Summary) -> list[str]:
    """The winner's interval, the exported training among its trainings, and the verdict."""
    final, winner = summary.final, _winner(summary)
    title = METRIC_TITLES.get(final.metric, final.metric)
    score = interval(winner.score, decimals([winner.score]))
    seeds = f"{len(winner.trainings)} training seeds" if len(winner.trainings) > 1 else "one training seed"
    lines = [f"- {title} of this trial: {score}, a 95 % interval from {seeds} and the test positions."]
    if len(winner.trainings) > 1:
        own = next(one for one in winner.trainings if one.seed == summary.best.seed)
        lines.append(
            f"- This model is the training that was best on the validation positions; at the test positions its {title} is "
            f"{number(own.test)}."
        )
    return lines + [f"- {sentence}" for sentence in final_sentences(final, standings(final))]


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
