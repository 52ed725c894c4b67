"""The end of a search for people: the methods at the sealed test positions, the finalists with their intervals, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from results.analysis import Standing
from results.formatting import decimals, interval, megabytes, microseconds, new_table, number
from results.summary import Final, FinalistResult
from spaces.metrics import METRICS

METHODS = {
    "document": "documents' values",
    "best": "winner",
    "nearest": "nearest neighbour",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "pca_rbf": "PCA + RBF",
    "rbf_cubic": "cubic RBF",
}
# Beside intervals there is no room for more.
SHORT = {**METHODS, "nearest": "nearest"}
METRIC_TITLES = {
    "prior_rel_l2": "rel. L2",
    "prior_psnr": "PSNR (dB)",
    "prior_centroid_px": "centroid (px)",
    "prior_radius_error_px": "radius (px)",
}
# The interpolation that a model of the field has to beat: the most accurate of those in common use.
YARDSTICK = "rbf_cubic"


def comparison_table(test: Mapping[str, Mapping[str, float]]) -> Table:
    """Every method at the sealed test positions; the best value of each column is bold.

    The last column is how many times smaller the relative L2 error is than with the documents' values.
    """
    metrics = [name for name in METRIC_TITLES if any(name in values for values in test.values())]
    table = new_table("At the test positions", "", *(METRIC_TITLES[name] for name in metrics), "documents' / this")
    best = {}
    for name in metrics:
        column = [row[name] for row in test.values() if name in row]
        best[name] = max(column) if METRICS[f"test/{name}"].mode == "max" else min(column)
    for method in [*(name for name in METHODS if name in test), *(name for name in test if name not in METHODS)]:
        values = test[method]
        cells = []
        for name in metrics:
            style = "bold" if values.get(name) == best[name] else ""
            cells.append(Text(number(values[name]) if name in values else "-", style=style))
        against = test.get("document", {}).get("prior_rel_l2")
        error = values.get("prior_rel_l2")
        factor = f"{against / error:.1f}" if against and error else "-"
        table.add_row(METHODS.get(method, method), *cells, factor)
    return table


def final_table(final: Final) -> Table:
    """The finalists, and interpolation beside them: the metric and its difference from the winner's, with 95 % intervals.

    The winner is bold. Below a finalist's mean is the value of each of its trainings.
    """
    baselines = [(name, final.baselines[name]) for name in METHODS if name in final.baselines]
    score_places = decimals(one.score for one in final.finalists)
    behind = [one.behind for one in final.finalists if one.behind is not None] + [one.behind for _, one in baselines]
    behind_places = decimals(behind)
    title = METRIC_TITLES.get(final.metric, final.metric)
    table = new_table(
        "Finalists at the test positions", "", f"{title} [95 %]", "minus the winner's [95 %]", "MB", "us/PSF"
    )
    table.padding = (0, 1, 0, 0)
    table.columns[1].justify = "left"
    # More seeds than fit beside each other go below each other.
    table.columns[1].width = max(len(interval(one.score, score_places)) for one in final.finalists)
    for one in final.finalists:
        score = Text(interval(one.score, score_places))
        if len(one.trainings) > 1:
            seeds = ", ".join(f"{training.test:.{score_places}f}" for training in one.trainings)
            score.append(f"\n{seeds}", style="not bold dim")
        table.add_row(
            finalist_name(one),
            score,
            interval(one.behind, behind_places, "+") if one.behind is not None else "-",
            megabytes(one.bytes),
            microseconds(one.seconds_per_psf),
            style="bold" if one.number == final.winner else None,
        )
    if baselines:
        table.add_section()
    for name, baseline in baselines:
        table.add_row(
            SHORT[name],
            f"{baseline.score:.{score_places}f}",
            interval(baseline.behind, behind_places, "+"),
            megabytes(baseline.bytes),
            microseconds(baseline.seconds_per_psf),
        )
    seeds = "; below, the value of each seed" if any(len(one.trainings) > 1 for one in final.finalists) else ""
    table.caption = (
        f"[95 %]: for other training seeds and test positions{seeds}. MB: what must be kept, the weights or the grid. "
        "us/PSF: on the CPU, a model on one thread."
    )
    return table


def finalist_name(one: FinalistResult) -> str:
    return "documents'" if one.recommended else f"#{one.number}"


def final_sentences(final: Final, standings: Sequence[Standing]) -> list[str]:
    """The verdict, and whether the winner beats interpolation of the training grid."""
    sentences = [_sentence(final.verdict)]
    others = [one for one in standings if one.method != YARDSTICK]
    yardstick = next((one for one in standings if one.method == YARDSTICK), None)
    title = METRIC_TITLES.get(final.metric, final.metric)
    if yardstick is not None:
        name, ahead = METHODS[YARDSTICK], yardstick.ahead
        if yardstick.better == "winner":
            text = f"the winner is better than {name} by {interval(ahead, decimals([ahead]))}"
        elif yardstick.better == "method":
            lead = ahead.model_copy(update={"mean": -ahead.mean, "low": -ahead.high, "high": -ahead.low})
            text = f"{name} is better than the winner by {interval(lead, decimals([lead]))}"
        else:
            text = f"the winner and {name} are not told apart: {interval(ahead, decimals([ahead]), '+')}"
        sentences.append(_sentence(f"{text} in {title}"))
    for better, text in (("method", "better than the winner"), (None, "not told apart from the winner")):
        listed = [METHODS[one.method] for one in others if one.better == better]
        also = "also " if listed and yardstick is not None and yardstick.better == better else ""
        if listed:
            sentences.append(_sentence(f"{also}{text}: {', '.join(listed)}"))
    return sentences


def _sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
