"""The end of a search for people: the methods at the sealed test set, the finalists with their intervals, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from results.analysis import Standing
from results.comparison import listed
from results.formatting import decimals, duration, interval, megabytes, microseconds, new_table, number
from results.summary import BaselineResult, Cost, Final, FinalistResult
from spaces.metrics import SEALED, Metric, best, sign
from spaces.system import System

OURS = {"reference": "reference", "best": "winner"}


def methods(system: System) -> dict[str, str]:
    """What tables call each method of a run's end, in their order: the yardstick is the last."""
    return OURS | {baseline.name: baseline.title for baseline in system.baselines}


def comparison_table(test: Mapping[str, Mapping[str, float]], final: Final, system: System) -> Table:
    """Every method at the sealed test set; the best value of each column is bold.

    The last column compares with the reference by the metric of the finals: how many times smaller this one's is where
    a quotient means something, else their difference.
    """
    shown = [one for one in columns(system) if any(one.measure in values for values in test.values())]
    metric, titles = system.metrics[SEALED + final.metric], methods(system)
    against = "reference / this" if metric.ratio else f"this - reference ({metric.unit})"
    table = new_table("At the test set", "", *(one.short for one in shown), against)
    best_of = {
        one.measure: best(one.mode, [row[one.measure] for row in test.values() if one.measure in row])
        for one in shown
        if one.mode
    }
    for method in [*(name for name in titles if name in test), *(name for name in test if name not in titles)]:
        values = test[method]
        cells = [
            Text(
                number(values[one.measure]) if one.measure in values else "-",
                style="bold" if one.mode and values.get(one.measure) == best_of[one.measure] else "",
            )
            for one in shown
        ]
        table.add_row(titles.get(method, method), *cells, _against(test.get("reference", {}), values, metric))
    table.caption = " ".join(_judged_in_part(final, system)) or None
    return table


def _judged_in_part(final: Final, system: System) -> list[str]:
    """Sentences on what was judged at few items, which its place in a table does not tell."""
    return [
        _sentence(f"{title}: judged at the first {one.items} {system.item}s only")
        for title, one in _baselines(final, system)
        if one.items is not None
    ]


def columns(system: System) -> list[Metric]:
    """The metrics that a run's end shows, in the order of their declaration."""
    return [one for one in system.metrics.values() if one.title and one.name.startswith(SEALED)]


def _against(reference: Mapping[str, float], values: Mapping[str, float], metric: Metric) -> str:
    if metric.measure not in reference or metric.measure not in values:
        return "-"
    theirs, this = reference[metric.measure], values[metric.measure]
    if not metric.ratio:
        return number(this - theirs)
    return f"{theirs / this:.1f}" if this else "-"


def final_table(final: Final, system: System) -> Table:
    """The finalists, and what does without them: the metric and its difference from the winner's, with 95 % intervals.

    The winner is bold. Below a finalist's mean is the value of each of its trainings.
    """
    baselines = _baselines(final, system)
    score_places, behind_places = places(final)
    title = system.metrics[SEALED + final.metric].short
    table = new_table("Finalists at the test set", "", f"{title} [95 %]", "minus the winner's [95 %]")
    table.padding = (0, 1, 0, 0)
    table.columns[1].justify = "left"
    # More seeds than fit beside each other go below each other.
    scores = [one.score for one in final.finalists] + [one.score for _, one in baselines]
    table.columns[1].width = max(len(interval(score, score_places)) for score in scores)
    for one in final.finalists:
        score = Text(interval(one.score, score_places))
        if len(one.trainings) > 1:
            seeds = ", ".join(f"{training.test:.{score_places}f}" for training in one.trainings)
            score.append(f"\n{seeds}", style="not bold dim")
        table.add_row(
            finalist_name(one),
            score,
            interval(one.behind, behind_places, "+") if one.behind is not None else "-",
            style="bold" if one.number == final.winner else None,
        )
    if baselines:
        table.add_section()
    for name, baseline in baselines:
        table.add_row(name, interval(baseline.score, score_places), interval(baseline.behind, behind_places, "+"))
    seeds = "; below, the value of each seed" if any(len(one.trainings) > 1 for one in final.finalists) else ""
    table.caption = " ".join(
        [f"[95 %]: for other training seeds and test items{seeds}.", *_judged_in_part(final, system)]
    )
    return table


def places(final: Final) -> tuple[int, int]:
    """Decimals of the scores, and of their differences from the winner's."""
    behind = [one.behind for one in final.finalists if one.behind is not None]
    behind += [one.behind for one in final.baselines.values()]
    return decimals(one.score for one in final.finalists), decimals(behind)


def cost_table(final: Final, system: System) -> Table:
    """What each method of `final_table` costs: to keep, to call and to make."""
    asking = asking_titles(system)
    judged: list[tuple[str, Cost, bool]] = [
        *((finalist_name(one), one, one.number == final.winner) for one in final.finalists),
        *((title, one, False) for title, one in _baselines(final, system)),
    ]
    table = new_table("What they cost", "", "MB", f"us/{system.item}", "data", "training")
    for title, one, winner in judged:
        table.add_row(title, *costs_of(one, keeps=title not in asking), style="bold" if winner else None)
    table.caption = (
        f"MB: what must be kept. us/{system.item}: on the CPU, a model on one thread. data: CPU time of making what it is made "
        "of; training: wall-clock time of one. ?: not known."
    )
    return table


def costs_of(one: Cost, keeps: bool = True) -> list[str]:
    """Cells: MB, unless there is nothing to keep, microseconds per item, time of its data and of its training."""
    times = (
        "?" if took is None else duration(took) if took else "-" for took in (one.data_seconds, one.training_seconds)
    )
    return [megabytes(one.bytes) if keeps else "-", microseconds(one.seconds), *times]


def asking_titles(system: System) -> set[str]:
    """Titles of what needs at hand what the data is made of."""
    return {one.title for one in system.baselines if one.asks_the_source}


def _baselines(final: Final, system: System) -> list[tuple[str, BaselineResult]]:
    """What does without a model, with its title."""
    return [(title, final.baselines[name]) for name, title in methods(system).items() if name in final.baselines]


def finalist_name(one: FinalistResult) -> str:
    return "reference" if one.recommended else f"#{one.number}"


def final_sentences(final: Final, standings: Sequence[Standing], system: System) -> list[str]:
    """The verdict, and whether the winner beats what a user would do without it."""
    sentences = [_sentence(final.verdict)]
    titles = methods(system)
    judged = {one.method for one in standings}
    hardest = next((one.name for one in reversed(system.baselines) if one.name in judged), None)
    others = [one for one in standings if one.method != hardest]
    yardstick = next((one for one in standings if one.method == hardest), None)
    title = system.metrics[SEALED + final.metric].short
    if yardstick is not None:
        name, ahead = titles[yardstick.method], yardstick.ahead
        if yardstick.better == "winner":
            text = f"the winner is better than {name} by {interval(ahead, decimals([ahead]))}"
        elif yardstick.better == "method":
            lead = ahead.model_copy(update={"mean": -ahead.mean, "low": -ahead.high, "high": -ahead.low})
            text = f"{name} is better than the winner by {interval(lead, decimals([lead]))}"
        else:
            text = f"the winner and {name} are not told apart: {interval(ahead, decimals([ahead]), '+')}"
        sentences.append(_sentence(f"{text} in {title}"))
    for better, text in (("method", "better than the winner"), (None, "not told apart from the winner")):
        named = [titles[one.method] for one in others if one.better == better]
        also = "also " if named and yardstick is not None and yardstick.better == better else ""
        if named:
            sentences.append(_sentence(f"{also}{text}: {', '.join(named)}"))
    if final.baselines:
        sentences.append(_advice(final, system))
    return sentences


type Named = tuple[str, FinalistResult | BaselineResult]


def _advice(final: Final, system: System) -> str:
    """Which method to take for what, of those whose error is at most twice the winner's or not told apart from it."""
    metric = system.metrics[SEALED + final.metric]
    assert metric.mode is not None, "an objective has a direction"
    toward = sign(metric.mode)
    winner = final.best

    def loss(named: Named) -> float:
        return toward * named[1].score.mean

    def good(one: BaselineResult) -> bool:
        alike = min(toward * one.behind.low, toward * one.behind.high) <= 0
        return alike or (metric.ratio and toward * one.score.mean <= 2 * toward * winner.score.mean)

    without: list[Named] = [(title, one) for title, one in _baselines(final, system) if good(one)]
    asking = asking_titles(system)
    of_data = [named for named in without if named[0] not in asking]
    ours: Named = ("the winner", winner)
    alone, either = (f" without the {system.what}", f" or the {system.what}") if asking else ("", "")
    small = [ours, *(named for named in of_data if named[1].bytes <= winner.bytes)]
    purposes = {
        f"the best {metric.short}": min([ours, *without], key=loss),
        f"the best within {megabytes(winner.bytes)} MB{alone}": min(small, key=loss),
        f"the shortest time per {system.item}": min([ours, *without], key=lambda named: named[1].seconds),
    }
    if untrained := [named for named in of_data if named[1].training_seconds == 0]:
        purposes[f"the best without training{either}"] = min(untrained, key=loss)
    chosen: dict[str, list[str]] = {}
    for purpose, (title, _) in purposes.items():
        chosen.setdefault(title, []).append(purpose)
    limit = "has at most twice the winner's error" if metric.ratio else "is not worse than the winner"
    taken = "; ".join(f"{title} for {listed(of)}" for title, of in chosen.items())
    return _sentence(f"of what {limit}, take {taken}")


def _sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
