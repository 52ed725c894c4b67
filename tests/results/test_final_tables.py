"""The end of a search: the comparison, the finalists with their intervals, the verdict."""

from __future__ import annotations

import re
from typing import Any

import pytest

from results.analysis import standings
from results.final_tables import comparison_table, cost_table, final_sentences, final_table
from results.summary import BaselineResult, Final
from tests.results.conftest import around, final_of, summary_of
from tests.results.test_tables import drawn
from trainables.psf.system import SYSTEM


def of(final: Final, **changes: Any) -> Final:
    return final.model_copy(update=changes)


def test_the_comparison_has_every_method_and_the_best_values():
    lines = drawn(comparison_table(summary_of("a-run").test, final_of(), SYSTEM)).splitlines()
    first = ["reference", "winner", "nearest", "bilinear", "bicubic", "PCA", "cubic"]
    assert [line.split()[0] for line in lines[2:9]] == first
    assert lines[3].split() == ["winner", "0.02", "30", "20.0"]


def test_finalists_and_baselines_stand_side_by_side():
    table = final_table(final_of(), SYSTEM)
    lines = drawn(table).splitlines()
    assert "#2        0.0200 [0.0188, 0.0212]                             -" in [line.rstrip() for line in lines]
    assert "          0.0196, 0.0204" in [line.rstrip() for line in lines]  # each seed's value
    assert "#4        0.0199 [0.0188, 0.0210] -0.00010 [-0.00060, +0.00040]" in lines
    assert "reference 0.4000 [0.3800, 0.4200] +0.38000 [+0.36100, +0.39900]" in lines
    assert "cubic RBF 0.0150 [0.0142, 0.0158] -0.00500 [-0.00580, -0.00420]" in lines
    assert [row.style for row in table.rows][:3] == ["bold", None, None]


def test_each_method_has_its_costs():
    final = final_of()
    trained = final.finalists[0].model_copy(update={"data_seconds": 61.0, "training_seconds": 20.0})
    lines = drawn(cost_table(of(final, finalists=(trained, *final.finalists[1:])), SYSTEM)).splitlines()
    rows = {
        " ".join(words[:-4]): words[-4:]
        for words in (line.replace(" min ", "min").replace(" s", "s").split() for line in lines)
    }
    assert rows["#2"] == ["1.23", "45.1", "1min01s", "20.0s"]
    assert rows["reference"] == ["3.30", "45.1", "?", "?"]
    assert rows["cubic RBF"] == ["1.08", "3.2", "5.0s", "-"]


@pytest.mark.parametrize(("metric", "scale"), [("prior_rel_l2", 0.01), ("prior_psnr", 2000.0), ("prior_psnr", 1e4)])
@pytest.mark.parametrize("seeds", [1, 3, 9])
def test_the_widest_finalists_table_fits(metric, scale, seeds):
    """Five decimals, models of 100 MB, times of a tenth of a second, many seeds."""
    final = final_of()
    finalists = tuple(
        one.model_copy(
            update={
                "trainings": one.trainings[:1] * seeds,
                "score": around(scale * one.score.mean, 1e-4 * scale),
                "behind": one.behind and around(-scale * one.behind.mean, 1e-4 * scale),
                "bytes": 100 * one.bytes,
                "seconds": 0.123,
            }
        )
        for one in final.finalists
    )
    for table in (final_table, cost_table):
        drawn(table(of(final, metric=metric, finalists=finalists), SYSTEM))


def test_one_training_is_not_listed_twice():
    alone = tuple(one.model_copy(update={"trainings": one.trainings[:1]}) for one in final_of().finalists)
    text = drawn(final_table(of(final_of(), finalists=alone), SYSTEM))
    assert "0.0196" not in text
    assert "the value of" not in text


def test_what_was_judged_at_few_items_is_said_to_be():
    few = final_of().baselines["bicubic"].model_copy(update={"items": 2})
    final = of(final_of(), baselines={**final_of().baselines, "bicubic": few})
    for table in (comparison_table(summary_of("a-run").test, final, SYSTEM), final_table(final, SYSTEM)):
        assert drawn(table).count("Bicubic: judged at the first 2 PSFs only.") == 1


def against(metric: str, **behind: float) -> list[str]:
    baselines = {
        method: BaselineResult(score=around(1.0, 0.1), behind=around(mean, 0.5), bytes=1, seconds=1e-6)
        for method, mean in behind.items()
    }
    final = of(final_of(), metric=metric, baselines=baselines)
    return final_sentences(final, standings(final, SYSTEM), SYSTEM)[1:-1]


def test_the_verdict_comes_first_and_then_cubic_rbf():
    final = final_of()
    assert final_sentences(final, standings(final, SYSTEM), SYSTEM)[:-1] == [
        "Trials 2 and 4 are tied within noise: take the smaller, 2 (1.23 MB against 4.56 MB).",
        "Cubic RBF is better than the winner by 0.00500 [0.00420, 0.00580] in rel. L2.",
        "Also better than the winner: bicubic.",
        "Not told apart from the winner: PCA + RBF.",
    ]


def test_which_one_is_better_follows_the_metrics_direction():
    assert against("prior_rel_l2", rbf_cubic=2.0, bilinear=3.0) == [
        "The winner is better than cubic RBF by 2.00 [1.50, 2.50] in rel. L2."
    ]
    assert against("prior_psnr", rbf_cubic=2.0, bilinear=3.0, pca_rbf=0.1) == [
        "Cubic RBF is better than the winner by 2.00 [1.50, 2.50] in PSNR (dB).",
        "Also better than the winner: bilinear.",
        "Not told apart from the winner: PCA + RBF.",
    ]
    assert against("prior_psnr", rbf_cubic=-0.2, pca_rbf=3.0, bicubic=0.1) == [
        "The winner and cubic RBF are not told apart: +0.20 [-0.30, +0.70] in PSNR (dB).",
        "Better than the winner: PCA + RBF.",
        "Also not told apart from the winner: bicubic.",
    ]


def advice(**baselines: dict[str, float]) -> dict[str, str]:
    """Purpose -> method, of a winner with an error of 0.02, 1.23 MB and 45 us."""
    made = {
        name: BaselineResult(
            score=around(one["error"], 1e-4),
            behind=around(one["error"] - 0.02, 1e-4),
            bytes=int(one.get("bytes", 1e6)),
            seconds=one.get("seconds", 1e-3),
            training_seconds=one.get("training", 0.0),
        )
        for name, one in baselines.items()
    }
    final = of(final_of(), baselines=made)
    sentence = final_sentences(final, standings(final, SYSTEM), SYSTEM)[-1]
    chosen = (part.split(" for ") for part in sentence.partition(", take ")[2].rstrip(".").split("; "))
    return {purpose: method for method, purposes in chosen for purpose in re.split(", | and ", purposes)}


def test_the_last_sentence_says_which_to_take_for_what():
    assert advice(rbf_cubic={"error": 0.05}) == dict.fromkeys(
        ["the best rel. L2", "the best within 1.23 MB without the lens", "the shortest time per PSF"], "the winner"
    )
    found = advice(
        renderer={"error": 0.001, "bytes": 1},
        psfnet={"error": 0.03, "training": 9.0},
        bicubic={"error": 0.03, "seconds": 1e-6},
        turned={"error": 0.01, "bytes": 1e9},
        components_small={"error": 0.021},
    )
    assert found == {
        "the best rel. L2": "ray tracing itself",
        "the best within 1.23 MB without the lens": "the winner",
        "the shortest time per PSF": "bicubic",
        "the best without training or the lens": "turned spline",
    }
