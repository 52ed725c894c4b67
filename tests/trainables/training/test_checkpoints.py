"""Checkpoints: what is saved comes back, damage is seen, disk space stays bounded."""

import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spaces.errors import SpaceError
from spaces.system import system
from tests.trainables.psf.synthetic import model_of, newest
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    model_tensors,
    save_checkpoint,
)
from trainables.training.stored import stored_checkpoints

CONFIG = CvaeConfig(1, 5, {"depth_mm": (0.1, 2.0)}, latent_dim=3, hidden_dim=8, num_layers=1, fourier_bands=1)


def checkpoint(step: int) -> Checkpoint:
    torch.manual_seed(step)
    model = CVAE(CONFIG)
    metrics = {"val/prior_rel_l2": 1 / step}
    return Checkpoint(step, metrics, 1 / step, step, "cvae_psf", model.config_dict, model_tensors(model))


def written(directory: Path, step: int) -> dict[str, Any]:
    """The JSON of a checkpoint."""
    record: dict[str, Any] = json.loads((directory / f"last-{step:08d}.json").read_text())
    return record


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    saved = checkpoint(10)
    save_checkpoint(tmp_path, "last", saved)
    loaded = newest(tmp_path)
    assert (loaded.step, loaded.metrics, loaded.system) == (10, saved.metrics, "cvae_psf")
    assert (loaded.best, loaded.best_step) == (saved.best, 10)
    assert model_of(loaded).config == CONFIG
    points = torch.tensor([[0.1, 0.2, -800.0]])
    assert torch.equal(model_of(loaded).predict(points), model_of(saved).predict(points))
    assert load_checkpoint(tmp_path, "best") is None


def test_a_checkpoint_names_its_system_and_the_version_of_that(tmp_path):
    save_checkpoint(tmp_path, "last", checkpoint(1))
    record = written(tmp_path, 1)
    assert (record["system"], record["system_version"]) == ("cvae_psf", system("cvae_psf").version)
    assert CvaeConfig.from_dict(record["config"]) == CONFIG


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"system_version": 99}, "it does not match its SHA-256"),
        ({"system": "cvae_of_psfs"}, "it does not match its SHA-256"),
        ({"system": None}, "it does not match its SHA-256"),
    ],
)
def test_a_checkpoint_that_was_changed_gives_way_to_the_one_before(tmp_path, caplog, change, why):
    for step in (1, 2):
        save_checkpoint(tmp_path, "last", checkpoint(step))
    record = {name: value for name, value in (written(tmp_path, 2) | change).items() if value is not None}
    (tmp_path / "last-00000002.json").write_text(json.dumps(record))
    assert newest(tmp_path).step == 1
    assert re.search(f"last-00000002.json is damaged .*{why}", caplog.text)


def test_a_checkpoint_of_another_version_is_refused_and_stays(tmp_path, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr("trainables.training.checkpoints.system", lambda name: replace(system(name), version=99))
        save_checkpoint(tmp_path, "last", checkpoint(2))
    with pytest.raises(SpaceError, match=r"last-00000002.json: of version 99 of cvae_psf, this program has \d+"):
        newest(tmp_path)
    assert len(stored_checkpoints(tmp_path)) == 1


def test_the_newest_two_of_a_kind_are_kept_and_nothing_else(tmp_path):
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, "last", checkpoint(step))
    save_checkpoint(tmp_path, "best", checkpoint(2))
    kept = {
        f"{name}.{end}"
        for name in ("last-00000002", "last-00000030", "best-00000002")
        for end in ("json", "safetensors")
    }
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert newest(tmp_path).step == 30


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "missing"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_warning(tmp_path, caplog, suffix, damage):
    for step in (1, 2):
        save_checkpoint(tmp_path, "last", checkpoint(step))
    path = tmp_path / f"last-00000002{suffix}"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "one byte":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path).step == 1
    # Without its JSON a checkpoint was never completed: nothing to warn about.
    assert ("last-00000002" in caplog.text) == ((damage, suffix) != ("missing", ".json"))


def test_with_every_checkpoint_damaged_there_is_none(tmp_path):
    save_checkpoint(tmp_path, "last", checkpoint(1))
    (tmp_path / "last-00000001.safetensors").write_bytes(b"\x80\x04.")  # a pickle is not even looked into
    assert load_checkpoint(tmp_path, "last") is None


def test_a_full_disk_leaves_the_former_checkpoint_and_no_debris(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, "last", checkpoint(1))
    before = set(tmp_path.iterdir())

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, "last", checkpoint(2))
    assert set(tmp_path.iterdir()) == before
    assert newest(tmp_path).step == 1


def test_stored_checkpoints_are_listed_and_deleted_the_json_first(tmp_path):
    assert stored_checkpoints(tmp_path / "none") == []
    save_checkpoint(tmp_path, "best", checkpoint(2))
    for step in (10, 2):
        save_checkpoint(tmp_path, "last", checkpoint(step))
    (tmp_path / ".123.last-00000030.safetensors").write_bytes(b"half")
    (tmp_path / "notes.txt").touch()
    listed = stored_checkpoints(tmp_path)
    assert [(one.kind, one.step, one.complete) for one in listed] == [
        ("best", 2, True),
        ("last", 2, True),
        ("last", 10, True),
        ("last", 30, False),
    ]
    assert all(one.files[0].suffix == ".json" for one in listed if one.complete)
    for one in listed[2:]:
        one.delete()
        one.delete()  # what is gone already is no error
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith((".", "last-"))} == {
        "last-00000002.json",
        "last-00000002.safetensors",
    }
    assert newest(tmp_path).step == 2
