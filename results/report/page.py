"""What the page of a run is made of. Its numbers are those of `psf-search analyze`: the same tables, in HTML."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from results import tables
from results.analysis import Analysis
from results.comparison import Interval
from results.final_tables import comparison_table, cost_table, final_sentences, final_table, methods, places
from results.formatting import duration, interval
from results.plots import SEARCH_FIGURES
from results.report.charts import effects_chart, history_chart, intervals_chart, lanes_chart, mark, responses, slices
from results.report.parallel import parallel
from results.report.tables import Data, html
from results.run_directory import RunDirectory
from results.summary import Summary
from spaces.loading import as_yaml
from spaces.metrics import SEALED, sign
from spaces.system import System

LIMIT = 19_500_000
"""Bytes of a page: pictures that would make it larger are left out."""
KINDS = (
    ("best", "best"),
    ("reference", "reference"),
    ("complete", "full budget"),
    ("pruned", "stopped early"),
    ("running", "running"),
)
SECTIONS = {
    "verdict": "Verdict",
    "comparison": "Comparison",
    "explorer": "Explorer",
    "course": "Course",
    "trials": "Trials",
    "sensitivity": "Sensitivity",
    "states": "States",
    "cost": "Cost",
    "pictures": "Pictures",
    "repeat": "Repeat",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the numbers that come first: of what, its value, its interval, and how it compares with the winner's."""

    kind: str
    title: str
    value: str
    interval: str
    against: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file of a run's figures/ as a data address."""

    title: str
    address: str


def run_page(run: RunDirectory, analysis: Analysis, explorer: str | None = None) -> str:
    """The HTML of one run, finished or not.

    Args:
        explorer: a whole section of its own, which is put in as it is.
    """
    summary, system, record = analysis.summary, analysis.study.system, analysis.record
    final = summary.final if summary is not None else None
    parts: dict[str, Any] = {
        "title": record.name,
        "about": f"{record.space}, preset {record.preset}: {analysis.study.description}",
        "measure": "" if final is None else _measure(system.metrics[SEALED + final.metric].name, system),
        "tiles": [] if summary is None else tiles(summary, system),
        "verdict": verdict(analysis),
        "intervals": None if final is None else intervals_chart(final, system),
        "comparison": "" if final is None or summary is None else html(comparison_table(summary.test, final, system)),
        "finals": "" if final is None else html(final_table(final, system)),
        "course": history_chart(analysis),
        "survival": html(tables.survival_table(analysis)),
        "coordinates": parallel(analysis),
        "slices": slices(analysis),
        "states": sorted({one.state for one in analysis.ranking}),
        "best": html(tables.front_tables(analysis) if analysis.front else tables.best_table(analysis)),
        "effects": effects_chart(analysis),
        "responses": responses(analysis),
        "sensitivity": html(tables.sensitivity_table(analysis.sensitivity, analysis)),
        "edges": tables.edge_lines(analysis),
        "state_counts": html(tables.state_counts(analysis)),
        "state_lines": tables.state_lines(analysis),
        "failures": failures(analysis),
        "stops": html(tables.stop_table(analysis, most=len(analysis.stops))),
        "cost_lines": _cost_lines(analysis),
        "lanes": lanes_chart(analysis),
        "costs": "" if final is None else html(cost_table(final, system)),
        "pictures": [],
        "left_out": [],
        "explorer": None if explorer is None else Markup(explorer),
        "objective": analysis.title,
        "kinds": [one for one in KINDS if one[0] != "running" or any(t.state == "RUNNING" for t in analysis.trials)],
        **_repeat(run, analysis),
    }
    parts["sections"] = []
    room = LIMIT - len(rendered("run.html", parts).encode())
    parts["pictures"], parts["left_out"] = embedded(run.figures, room)
    there = {"verdict", "sensitivity", "states", "cost", "repeat"}
    there |= {name for name in ("course", "pictures", "explorer") if parts[name]}
    there |= {"comparison"} if final is not None else set()
    there |= {"trials"} if parts["coordinates"] else set()
    parts["sections"] = [(anchor, name) for anchor, name in SECTIONS.items() if anchor in there]
    return rendered("run.html", parts)


def rendered(template: str, parts: dict[str, Any]) -> str:
    """A page of a template. All that is not markup already is escaped."""
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return _environment().get_template(template).render(parts, made=made, version=version("psf-search"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("results.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here = files("results.report")
    # Not as templates, as `{#` begins a comment there.
    environment.globals |= {name: Markup((here / f"report.{name}").read_text()) for name in ("css", "js")}
    environment.globals["mark"] = mark
    return environment


def verdict(analysis: Analysis) -> list[str]:
    """What came out, in sentences."""
    if analysis.summary is not None:
        return final_sentences(analysis.summary.final, analysis.standings, analysis.study.system)
    done = sum(one.state in ("COMPLETE", "PRUNED", "FAIL") for one in analysis.trials)
    lines = [f"The search has not ended: {done} of {analysis.record.budget().trials} trials have."]
    if (gain := tables.gain_line(analysis)) is not None:
        lines.append(f"So far {gain}")
    return lines


def tiles(summary: Summary, system: System) -> list[Tile]:
    """The winner, the reference and the best of what needs no model, at the test set."""
    final = summary.final
    metric = system.metrics[SEALED + final.metric]
    assert metric.mode is not None, "an objective has a direction"
    toward = sign(metric.mode)
    winner = final.best
    others: list[tuple[str, str, Interval, Interval]] = [
        ("reference", "Reference", one.score, one.behind)
        for one in final.finalists
        if one.recommended and one.behind is not None
    ]
    if final.baselines:
        name, best = min(final.baselines.items(), key=lambda item: toward * item[1].score.mean)
        title = f"Best without a model: {methods(system).get(name, name)}"
        title += f", at the first {best.items} {system.item}s only" if best.items is not None else ""
        others.append(("baseline", title, best.score, best.behind))
    score_places, behind_places = places(final)
    shown = "the reference" if winner.recommended else f"trial {winner.number}"
    found = [
        Tile("best", f"Winner: {shown}", f"{winner.score.mean:.{score_places}f}", _bounds(winner.score, score_places))
    ]
    for kind, title, score, behind in others:
        against = f"{interval(behind, behind_places, '+')} from the winner"
        same = score.mean - behind.mean  # the winner's, at the items that the other one was judged at
        if metric.ratio and same > 0:
            times = score.mean / same
            against += f"; {times:.{1 if times >= 1 else 2}f} times the winner's"
        found.append(Tile(kind, title, f"{score.mean:.{score_places}f}", _bounds(score, score_places), against))
    return found


def _bounds(one: Interval, places: int) -> str:
    return "" if one.low == one.high else f"95 %: {one.low:.{places}f} to {one.high:.{places}f}"


def _measure(name: str, system: System) -> str:
    metric = system.metrics[name]
    return f"{metric.short} at the sealed test set ({'less' if metric.mode == 'min' else 'more'} is better): {metric.meaning}."


def failures(analysis: Analysis) -> Markup:
    """Every failed trial with its whole reason; nothing where none failed."""
    rows = [[f"#{one.number}", f"{one.step:,}", one.failure or "-"] for one in analysis.trials if one.state == "FAIL"]
    return Data(["trial", "at step", "reason"], rows).html("Failed trials") if rows else Markup("")


def _cost_lines(analysis: Analysis) -> list[str]:
    lines = [line for line in (tables.busy_line(analysis),) if line is not None]
    if (summary := analysis.summary) is not None:
        made = "; ".join(f"{count:,} {name}" for name, count in summary.prepared.items())
        lines.append(
            f"The run took {duration(summary.seconds)} and {summary.steps:,} optimizer steps, {duration(summary.lane_seconds)} of "
            f"lanes' time{f'; {made}' if made else ''}."
        )
    return lines


def embedded(figures: Path, room: int) -> tuple[list[Picture], list[str]]:
    """The pictures of a run's directory, as many as have room, and a line for each that has none.

    Those of the search are left out: the page draws them itself.

    Args:
        room: in bytes of the page.
    """
    found, left_out = [], []
    for path in sorted(figures.glob("*.png")) if figures.is_dir() else []:
        if path.stem in SEARCH_FIGURES:
            continue
        address = f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
        if len(address) > room:
            left_out.append(f"{path.name} has no room here ({len(address) / 1e6:.1f} MB): see {path}.")
            continue
        room -= len(address)
        found.append(Picture(path.stem.replace("_", " "), address))
    return found, left_out


def _repeat(run: RunDirectory, analysis: Analysis) -> dict[str, Any]:
    record = analysis.record
    again = ["psf-search", "run", "--space", "space.yaml", "--preset", record.preset]
    use = [f"psf-search analyze {shlex.quote(str(run.path))}"]
    if analysis.summary is not None:
        use.append(f'python -c "from results import load_model; print(load_model({str(run.model)!r}))"')
    provenance: Sequence[tuple[str, str]] = [
        ("started", record.started.isoformat(timespec="seconds")),
        ("seed", str(record.seed)),
        (analysis.study.system.what, f"{record.source.name}, sha256 {record.source.sha256}"),
        *sorted(record.versions.items()),
    ]
    return {
        "command": shlex.join(record.command),
        "again": shlex.join(again),
        "use": "\n".join(use),
        "changes": ", ".join(record.changes),
        "provenance": provenance,
        "space": as_yaml(_applied(record.study, record.preset)),
    }


def _applied(study: dict[str, Any], preset: str) -> dict[str, Any]:
    """A resolved study as a space: what its preset sets is in its place already, and overrides came after it."""
    budget = {name: value for name, value in study["budget"][preset].items() if name != "set"}
    return study | {"budget": study["budget"] | {preset: budget}}
