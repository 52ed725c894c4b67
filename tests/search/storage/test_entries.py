"""Prepared data that machines share by a bucket."""

import json

import numpy as np
import pytest

from search.storage.entries import shared_entries
from search.storage.mirror import Mirror
from search.storage.own_disk import OWN_DISK
from search.storage.place import Place
from spaces import store

PARAMETERS = {"made": "of this"}
KEY = store.key(PARAMETERS)


@pytest.fixture
def machine(address, monkeypatch, tmp_path):
    """Prepares data on a machine of its own: how many times it was made there, and what was said."""

    def prepare(name: str) -> tuple[int, list[str]]:
        monkeypatch.setenv(OWN_DISK, str(tmp_path / name))
        cache, made = Place.of_data(address("cache")), 0
        lines: list[str] = []
        with shared_entries(cache, [cache.path / KEY], lines.append):
            if not (cache.path / KEY).is_dir():
                store.write(cache.path, PARAMETERS, {"values": np.arange(3.0)})
                made += 1
        store.verify(cache.path / KEY)
        assert [path.name for path in cache.path.iterdir() if path.name != "lock"] == [KEY]
        return made, lines

    return prepare


@pytest.fixture
def mirror(address):
    bucket = Place.of_data(address("cache")).bucket
    assert bucket is not None
    return Mirror(bucket / KEY)


def test_what_one_machine_has_made_another_fetches(machine):
    assert machine("first") == (1, [])
    assert machine("first") == (0, [])
    assert machine("second") == (0, [])


@pytest.mark.parametrize("damage", ["object", "manifest", "entry"])
def test_damaged_data_is_made_again_and_replaced(machine, mirror, damage):
    machine("first")
    mirror.read()
    if damage == "object":
        mirror.bucket.put(f"objects/{mirror.files['values.npy'].sha256}", b"another")
    elif damage == "manifest":
        mirror.bucket.put("manifest.json", b"{")
    else:  # whole, but of other data
        changed = json.dumps({"parameters": {}, "files": {}}).encode()
        mirror.publish({"manifest.json": mirror.put(changed)})
    made, lines = machine("second")
    assert (made, len(lines)) == (1, 1)
    assert machine("third") == (0, [])


def test_a_search_goes_on_without_a_bucket_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv(OWN_DISK, str(tmp_path))
    cache = Place.of_data("s3://bucket/cache?endpoint_override=127.0.0.1:1&scheme=http")
    lines: list[str] = []
    with shared_entries(cache, [cache.path / KEY], lines.append):
        store.write(cache.path, PARAMETERS, {"values": np.arange(3.0)})
    assert len(lines) == 2
