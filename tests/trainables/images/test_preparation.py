import json
import os
from pathlib import Path

import numpy as np
import pytest

from spaces import store
from tests.trainables.images.conftest import write_mnist
from trainables.images.image_data import ImageData
from trainables.images.preparation import IMAGES, ImagePreparation, binarised

PREPARATION = ImagePreparation()


def small(root: Path, **keys) -> ImageData:
    if not list(root.glob("*ubyte")):
        write_mnist(root)
    return ImageData(images="mnist", root=str(root), **keys)


def have(data: ImageData, cache: Path, seed: int = 0):
    return PREPARATION.prepare(data, PREPARATION.find(data), seed, cache, actors=0)


def test_sets_are_made_once_and_lie_where_they_were_said_to(tmp_path):
    data, cache = small(tmp_path), tmp_path / "cache"
    places = PREPARATION.places(data, PREPARATION.find(data), 0, cache)
    first, again = have(data, cache), have(data, cache)
    assert first.work == {IMAGES: 80}
    assert again.work == {IMAGES: 0}
    assert {name: Path(entry) for name, entry in first.sets.items()} == places
    assert all(Path(entry).is_absolute() for entry in first.sets.values())
    assert sorted(path.name for path in cache.iterdir()) == sorted(["lock", *(path.name for path in places.values())])


def test_sets_are_memory_mapped_and_stay_as_they_are(tmp_path):
    entry = Path(have(small(tmp_path), tmp_path / "cache").sets["train"])
    arrays = store.read(entry, ("images", "labels"))
    assert isinstance(arrays["images"], np.memmap)
    assert arrays["images"].dtype == np.uint8
    store.verify(entry)


def test_held_out_images_are_binarised_for_good_and_training_images_as_said(tmp_path):
    sets = {
        mode: have(small(tmp_path, binarise=mode), tmp_path / "cache").sets for mode in ("none", "static", "dynamic")
    }
    images = {
        mode: {name: store.read(Path(entry), ("images",))["images"] for name, entry in one.items()}
        for mode, one in sets.items()
    }
    for name in ("validation", "test"):
        assert sets["static"][name] == sets["dynamic"][name]
        assert set(np.unique(images["static"][name])) == {0, 1}
    assert set(np.unique(images["static"]["train"])) == {0, 1}
    np.testing.assert_array_equal(images["dynamic"]["train"], images["none"]["train"])
    assert sets["dynamic"]["train"] != sets["none"]["train"]  # what a trial makes of them is part of the set
    assert images["none"]["test"].max() > 1


def test_static_binarisation_has_a_seed_of_its_own(tmp_path):
    cache = tmp_path / "cache"
    one = have(small(tmp_path, binarise="static"), cache)
    assert have(small(tmp_path, binarise="static"), cache, seed=1).sets == one.sets
    other = have(small(tmp_path, binarise="static", binarise_seed=1), cache)
    first, second = (store.read(Path(prepared.sets["test"]), ("images",))["images"] for prepared in (one, other))
    assert (first != second).any()


def test_a_pixel_is_one_as_often_as_its_level_says():
    levels = np.repeat(np.array([0, 51, 255], np.uint8), 40_000)
    shares = binarised(levels, seed=0).reshape(3, -1).mean(axis=1)
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.2, abs=0.01)
    assert shares[2] == 1


def test_the_files_content_is_part_of_the_name(tmp_path):
    cache = tmp_path / "cache"
    data = small(tmp_path)
    before = have(data, cache).sets
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    after = have(data, cache).sets
    assert all(before[name] != after[name] for name in before)


@pytest.mark.parametrize("damage", ["altered", "short", "gone", "renamed", "no manifest"])
def test_a_damaged_set_is_made_again_with_a_warning(tmp_path, damage):
    data, cache = small(tmp_path), tmp_path / "cache"
    entry = Path(have(data, cache).sets["train"])
    images = entry / "images.npy"
    content = images.read_bytes()
    if damage == "altered":
        images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "short":
        os.truncate(images, len(content) - 1)
    elif damage == "gone":
        images.unlink()
    elif damage == "renamed":
        manifest = json.loads((entry / "manifest.json").read_text())
        manifest["parameters"]["set"] = "test"
        (entry / "manifest.json").write_text(json.dumps(manifest))
    else:
        (entry / "manifest.json").unlink()
    prepared = have(data, cache)
    assert prepared.work == {IMAGES: 50}
    assert len(prepared.warnings) == 1
    assert str(entry) in prepared.warnings[0]
    assert images.read_bytes() == content
    assert not list(cache.glob(".partial-*"))


def test_a_recorded_section_names_the_folder_in_full(tmp_path, monkeypatch):
    small(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = ImageData(images="mnist", root=".")
    resolved = PREPARATION.resolved(data, PREPARATION.find(data))
    assert resolved.root == str(tmp_path.resolve())
    assert PREPARATION.places(resolved, PREPARATION.find(resolved), 0, tmp_path) == PREPARATION.places(
        data, PREPARATION.find(data), 0, tmp_path
    )
