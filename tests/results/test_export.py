"""The exported model: written whole or not at all, with a card that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in
from deeplens_workers.psf_data import PsfData
from results.export import best_hyperparameters, export_model, model_card
from results.run_directory import RunError
from spaces.loading import load
from tests.results.conftest import RunMaker, summary_of
from trainables.psf.card import psf_card

DATA = fill_in(PsfData.model_validate(load("cvae_psf").data), find_lens("cooke_triplet_50mm"))
CARD = psf_card(DATA, "cooke_triplet_50mm")


def test_an_export_replaces_the_earlier_one_whole(make_run: RunMaker):
    run = make_run()

    def first(directory: Path) -> None:
        (directory / "model.safetensors").write_bytes(b"one")
        (directory / "extra").write_bytes(b"only in the first")

    def second(directory: Path) -> None:
        (directory / "model.safetensors").write_bytes(b"two")

    export_model(run, first, {"card.md": "card"})
    export_model(run, second, {"card.md": "second card"})
    assert {path.name: path.read_text() for path in run.model.iterdir()} == {
        "model.safetensors": "two",
        "card.md": "second card",
    }


def test_a_failed_export_keeps_the_earlier_one(make_run: RunMaker):
    run = make_run()
    export_model(run, lambda directory: None, {"card.md": "card"})

    def full(directory: Path) -> None:
        (directory / "model.safetensors").write_text("part")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="model: no space left on the disk at "):
        export_model(run, full, {"card.md": "new card"})
    assert [path.name for path in run.model.iterdir()] == ["card.md"]
    assert not list(run.path.glob(".model*"))


def test_the_card_says_units_test_numbers_and_limits(make_run: RunMaker):
    card = model_card(make_run(), summary_of("a-run"), CARD)
    for text in (
        "# PSF model of cooke_triplet_50mm",
        "trial 2 of run `a-run`",
        "trained with fresh seed 1, at step 1800",
        "kernels [N, 3, 15, 15], each channel sums to one",
        "0.656, 0.587, 0.486 um",
        "25.74 x 25.74 mm, focal length 50.02 mm",
        "one kernel pixel is 13.65 um",  # 64 / 15 * 3.2
        "| | rel. L2 | PSNR (dB) | size (MB) | us per PSF |",
        "| **this trial**, mean of 2 trainings | 0.02 | 30 | 1.23 | 45.1 |",
        "| cubic RBF | 0.015 | 30 | 1.08 | 3.2 |",
        "| reference | 0.4 | 30 | 3.30 | 45.1 |",
        "- rel. L2 of this trial: 0.0200 [0.0188, 0.0212], a 95 % interval from 2 training seeds",
        "at the test set its rel. L2 is 0.0204.",  # of seed 1, not the mean
        "- Trials 2 and 4 are tied within noise: take the smaller, 2 (1.23 MB against 4.56 MB).",
        "- Cubic RBF is better than the winner by 0.00500 [0.00420, 0.00580] in rel. L2.",
        "when the 2 finalists had been trained, and decided between them",
        "| learning_rate | 0.001 |",
        "depth (-10000 mm)",
    ):
        assert text in card
    assert ".psf([[0.0, 0.5]])" in card


def test_the_card_tells_what_is_judged_at_few_items_and_what_keeps_nothing(make_run: RunMaker):
    summary = summary_of("a-run")
    traced = summary.final.baselines["nearest"].model_copy(update={"items": 2})
    final = summary.final.model_copy(update={"baselines": {**summary.final.baselines, "renderer": traced}})
    test = {**summary.test, "renderer": summary.test["nearest"]}
    card = model_card(make_run(), summary.model_copy(update={"final": final, "test": test}), CARD)
    assert "| ray tracing itself, of the first 2 PSFs only | 0.08 | 30 | - | 3.2 |" in card
    assert "| nearest | 0.08 | 30 | 1.08 | 3.2 |" in card


def test_the_card_of_a_model_that_the_search_itself_trained(make_run: RunMaker):
    summary = summary_of("a-run")
    winner = summary.final.finalists[0]
    alone = winner.model_copy(update={"trainings": (winner.trainings[0].model_copy(update={"seed": None}),)})
    card = model_card(
        make_run(),
        summary.model_copy(
            update={
                "best": summary.best.model_copy(update={"seed": None}),
                "final": summary.final.model_copy(update={"finalists": (alone,)}),
            }
        ),
        CARD,
    )
    assert "fresh seed" not in card
    assert "It was read only after this trial had been chosen." in card
    assert "| **this model** | 0.02 | 30 | 1.23 | 45.1 |" in card
    assert "| reference | 0.4 | 30 | - | - |" in card
    assert "from one training seed and the test set" in card


def test_the_card_counts_the_reference_among_those_that_might_have_won(make_run: RunMaker):
    summary = summary_of("a-run")
    finalists = tuple(one.model_copy(update={"rival": True}) for one in summary.final.finalists)
    final = summary.final.model_copy(update={"finalists": finalists})
    card = model_card(make_run(), summary.model_copy(update={"final": final}), CARD)
    assert f"when the {len(finalists)} finalists had been trained, and decided between them" in card


def test_the_winners_values_are_sections_of_a_space(make_run: RunMaker, tmp_path):
    summary = summary_of("a-run")
    values = {"learning_rate": 3e-5, "lr_schedule": "one_cycle", "num_layers": 3, "kl_weight": 1.2345678901234e-5}
    best = summary.best.model_copy(update={"params": values})
    text = best_hyperparameters(make_run(), summary.model_copy(update={"best": best}))
    (tmp_path / "winner.yaml").write_text(f"base: cvae_psf\n{text}")
    study = load(str(tmp_path / "winner.yaml"))
    assert study.search == {}
    assert study.recommended() == {}
    trial = study.trial({}).model_dump()
    assert {name: trial[name] for name in values} == values
    assert trial["smooth_pairs"] == load("cvae_psf").fixed["smooth_pairs"]  # what the base fixes stays
    (tmp_path / "again.yaml").write_text(
        "base: winner.yaml\nfixed: {learning_rate: null}\n"
        "search: {learning_rate: {low: 1e-5, high: 1e-3, log: true, recommended: 1e-4, source: mine}}\n"
    )
    again = load(str(tmp_path / "again.yaml"))
    assert list(again.search) == ["learning_rate"]
    assert again.fixed["num_layers"] == 3
