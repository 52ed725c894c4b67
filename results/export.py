"""The exported winner: weights and configuration as the model writes them, with a card for people, put in place at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from results.analysis import standings
from results.final_tables import asking_titles, columns, costs_of, final_sentences, methods
from results.formatting import decimals, interval, number
from results.run_directory import MachineError, RunDirectory, RunError
from results.summary import BaselineResult, FinalistResult, Summary
from spaces.card import Card
from spaces.disk import full_disk
from spaces.files import write as write_file
from spaces.loading import as_yaml
from spaces.metrics import SEALED
from spaces.system import System


def export_model(run: RunDirectory, write: Callable[[Path], None], texts: Mapping[str, str]) -> Path:
    """Fill `model/` of a run: `write(directory)` puts the model's files there, `texts` are files by name.

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
        for name, text in texts.items():
            write_file(partial / name, text.encode())
        if run.model.exists():
            run.model.rename(replaced)
        partial.rename(run.model)
    except OSError as error:
        if replaced.exists() and not run.model.exists():
            replaced.rename(run.model)
        if (full := full_disk(error, run.model)) is not None:
            raise MachineError(full) from None
        raise RunError(f"{run.model}: the model cannot be exported: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
    return run.model


def model_card(run: RunDirectory, summary: Summary, card: Card) -> str:
    """The card in Markdown: what the model is, its units, how to use it, its test numbers, and where it ends.

    Args:
        card: what the system says of it.
    """
    record = run.read_record()
    study, best = record.resolved_study(), summary.best
    training = "" if best.seed is None else f", trained with fresh seed {best.seed}"
    lines = [
        f"# {card.title}",
        "",
        f"{card.intro} It is trial {best.number} of run `{record.name}` "
        f"(space `{record.space}`, preset `{record.preset}`, seed {record.seed}){training}, at step {best.step}.",
        "",
        "## Use",
        "```python",
        "import torch",
        "from results import load_model",
        f"model = load_model({str(run.model)!r})",
        *card.usage,
        "```",
        "",
        *_bullets("Units", card.units),
        "## Test",
        f"{card.test} {_when_read(summary)}",
        "",
        *_test_table(summary, study.system),
        "",
        *_final_lines(summary, study.system),
        "",
        f"{card.remark} *Reference* is the same system with the source document's recommended hyperparameters, trained "
        "for the same number of steps. Size: what must be kept. Time: on the CPU, a model's on one thread. Data: CPU time of making what it "
        "is made of. Training: wall-clock time of one.".strip(),
        "",
        "## Hyperparameters",
        "| name | value |",
        "|---|---|",
        *(f"| {name} | {number(value)} |" for name, value in best.params.items()),
        "",
        *_bullets("Limits", card.limits),
        "## Provenance",
        f"- {study.system.what} `{record.source.name}`, sha256 `{record.source.sha256}`",
        f"- started {record.started.isoformat(timespec='seconds')}: `{' '.join(record.command)}`",
        f"- {', '.join(f'{name} {version}' for name, version in sorted(record.versions.items()))}",
    ]
    return "\n".join(lines) + "\n"


def best_hyperparameters(run: RunDirectory, summary: Summary) -> str:
    """The winner's values as sections of a space in YAML, to be put over the run's space or another one of its system.

    What the space searches is `fixed` there, and so no longer in `search`; what the winner does not have is as in the system.
    """
    record, best = run.read_record(), summary.best
    study = record.resolved_study()
    sections = {
        "search": dict.fromkeys(study.search),  # null takes a key of the base away
        "points_to_evaluate": None,
        "fixed": best.params,
    }
    lines = [
        f"Trial {best.number}, the winner of run {record.name}: {study.objective.metric} {number(best.value)} at step {best.step}.",
        f"It is a space of its own with `base: {study.space}` (or another space of {study.model}) on top. A `base:` does not have what",
        "the run was told by --set, --lens or a preset. To search one of these again, give its range in place of null, and take",
        "it out of `fixed`.",
    ]
    return "".join(f"# {line}\n" for line in lines) + as_yaml(sections, block=True)


def _bullets(heading: str, lines: Sequence[str]) -> list[str]:
    """A section of the card, unless the system has nothing to say there."""
    return [f"## {heading}", *(f"- {line}" for line in lines), ""] if lines else []


def _when_read(summary: Summary) -> str:
    """Whether the test set had a part in the choice of the model, which makes its own numbers look better."""
    rivals = [one for one in summary.final.finalists if one.rival]
    if len(rivals) == 1:
        return "It was read only after this trial had been chosen."
    return (
        f"It was read once, when the {len(rivals)} finalists had been trained, and decided between them: the best of "
        "several that are alike looks slightly better than it is."
    )


def _test_table(summary: Summary, system: System) -> list[str]:
    metrics = [one for one in columns(system) if any(one.measure in values for values in summary.test.values())]
    named = methods(system)
    costs: dict[str, FinalistResult | BaselineResult] = {**summary.final.baselines, "best": summary.final.best}
    if (reference := summary.final.reference) is not None:
        costs["reference"] = reference
    titles = [*(one.short for one in metrics), "size (MB)", f"us per {system.item}", "data", "training"]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    trainings = len(summary.final.best.trainings)
    this = f"**this trial**, mean of {trainings} trainings" if trainings > 1 else "**this model**"
    # What a reader asks first is how far the model is from what needs none, the hardest first.
    order = ("best", *(one.name for one in reversed(system.baselines)), "reference")
    for method in (name for name in order if name in summary.test):
        values = summary.test[method]
        cells = [number(values[one.measure]) if one.measure in values else "-" for one in metrics]
        cost, title = costs.get(method), this if method == "best" else named[method]
        cells += costs_of(cost, keeps=title not in asking_titles(system)) if cost is not None else ["-"] * 4
        if isinstance(cost, BaselineResult) and cost.items is not None:
            title += f", of the first {cost.items} {system.item}s only"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _final_lines(summary: Summary, system: System) -> list[str]:
    """The winner's interval, the exported training among its trainings, and the verdict."""
    final, winner = summary.final, summary.final.best
    title = system.metrics[SEALED + final.metric].short
    score = interval(winner.score, decimals([winner.score]))
    seeds = f"{len(winner.trainings)} training seeds" if len(winner.trainings) > 1 else "one training seed"
    lines = [f"- {title} of this trial: {score}, a 95 % interval from {seeds} and the test set."]
    if len(winner.trainings) > 1:
        own = next(one for one in winner.trainings if one.seed == summary.best.seed)
        lines.append(
            f"- This model is the training that was best on the validation positions; at the test set its {title} is "
            f"{number(own.test)}."
        )
    return lines + [f"- {sentence}" for sentence in final_sentences(final, standings(final, system), system)]
