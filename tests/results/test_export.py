"""The exported model: written whole or not at all, with a card that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.export import export_model, model_card
from results.run_directory import RunError
from tests.results.conftest import RunMaker, summary_of


def test_an_export_replaces_the_earlier_one_whole(make_run: RunMaker):
    run = make_run()

    def first(directory: Path) -> None:
        (directory / "model.safetensors").write_bytes(b"one")
        (directory / "extra").write_bytes(b"only in the first")

    def second(directory: Path) -> None:
        (directory / "model.safetensors").write_bytes(b"two")

    export_model(run, first, "card")
    export_model(run, second, "second card")
    assert {path.name: path.read_text() for path in run.model.iterdir()} == {
        "model.safetensors": "two",
        "card.md": "second card",
    }


def test_a_failed_export_keeps_the_earlier_one(make_run: RunMaker):
    run = make_run()
    export_model(run, lambda directory: None, "card")

    def full(directory: Path) -> None:
        (directory / "model.safetensors").write_text("part")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="model: the model cannot be exported: No space left on device"):
        export_model(run, full, "new card")
    assert [path.name for path in run.model.iterdir()] == ["card.md"]
    assert not list(run.path.glob(".model*"))


def test_the_card_says_units_test_numbers_and_limits(make_run: RunMaker):
    card = model_card(make_run(), summary_of("a-run"))
    for text in (
        "# PSF model of cooke_triplet_50mm",
        "trial 2 of run `a-run`",
        "kernels [N, 3, 15, 15], each channel sums to one",
        "0.656, 0.587, 0.486 um",
        "one kernel pixel is 13.65 um",  # 64 / 15 * 3.2
        "| **this model** | 0.02 | 30 |",
        "| cubic RBF | 0.015 | 30 |",
        "| learning_rate | 0.001 |",
        "depth (-10000 mm)",
    ):
        assert text in card
    assert ".predict(torch.tensor([[0.0, 0.5]]))" in card
