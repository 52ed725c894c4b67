import dataclasses
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from deeplens_workers import cache
from deeplens_workers.kernels import Kernels, Tracing, Units
from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.tolerances import Tolerances
from spaces import store


def some_kernels(points: int) -> Kernels:
    rng = np.random.default_rng(0)
    shapes = {"kernels": (3, 15, 15), "chief_ray_offset_px": (2,), "lateral_color_px": (3, 2)}
    arrays: dict[str, Any] = {
        name: rng.random((points, *shapes.get(name, (3,))), dtype=np.float32) for name in Kernels.names()
    }
    return Kernels(**arrays)


def names(directory) -> list[str]:
    """What a cache holds besides its lock, hidden leftovers included."""
    return sorted(path.name for path in directory.iterdir() if path.name != "lock")


def test_what_is_written_is_read_by_memory_map(tmp_path, make_request):
    request, kernels = make_request(5), some_kernels(5)
    entry = cache.write(tmp_path, request, kernels)
    store.verify(entry)
    for name in Kernels.names():
        stored = getattr(cache.read(entry), name)
        assert isinstance(stored, np.memmap)
        np.testing.assert_array_equal(stored, getattr(kernels, name))
    np.testing.assert_array_equal(np.load(entry / "points.npy"), request.points)
    manifest = json.loads((entry / "manifest.json").read_text())
    assert manifest["source"] == {"name": "cooke_triplet_50mm", "sha256": request.lens.sha256}
    assert manifest["files"]["kernels"]["shape"] == [5, 3, 15, 15]
    assert "mm" in manifest["files"]["points"]["unit"]
    assert names(tmp_path) == [entry.name]


def test_every_parameter_is_part_of_the_key(tmp_path, make_request, monkeypatch):
    request = make_request()
    other_lens = tmp_path / "cooke_triplet_50mm.json"
    other_lens.write_text((LENSES / "cooke_triplet_50mm.json").read_text().replace("22.01359", "22.0136"))
    changes = {
        "lens": find_lens(str(other_lens)),
        "points": np.nextafter(request.points, np.float32(0)),
        "pixel_pitch_um": 3.3,
        "channels": (((0.656, 1.0),), ((0.486, 1.0), (0.587, 2.0))),
        "trace_px": 65,
        "kernel_px": 16,
        "rays": 257,
        "seed": 1,
        "noise": 0.1,
        "model": "huygens",
        "centre": "pinhole",
        "pooling": "smooth",
        "pixel_filter": "triangle",
        "units": Units(Tolerances(), np.zeros((1, 33)), -1e4),
    }
    assert set(changes) | {"tracing"} == {
        field.name for field in (*dataclasses.fields(request), *dataclasses.fields(Tracing))
    }
    of_units = [
        Units(Tolerances(grade="high"), np.zeros((1, 33)), -1e4),
        Units(Tolerances(), np.ones((1, 33)), -1e4),
        Units(Tolerances(), np.zeros((1, 33)), -2e4),
    ]
    keys = {cache.key(request), *(cache.key(make_request(**{name: value})) for name, value in changes.items())}
    keys |= {cache.key(make_request(units=units)) for units in of_units}
    monkeypatch.setattr(cache, "RENDER_VERSION", -1)
    keys.add(cache.key(request))
    assert len(keys) == len(changes) + len(of_units) + 2


def test_the_key_is_the_lens_content_not_its_path(tmp_path, make_request):
    copy = tmp_path / "renamed.json"
    shutil.copy(LENSES / "cooke_triplet_50mm.json", copy)
    assert cache.key(make_request(lens=find_lens(str(copy)))) == cache.key(make_request())


@pytest.mark.parametrize("name", ["kernels.npy", "points.npy", "manifest.json"])
def test_missing_truncated_and_altered_files_are_detected(tmp_path, make_request, name):
    kernels = some_kernels(4)
    for damage in (
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(path.read_bytes()[:-9] + b"123456789"),
    ):
        entry = cache.write(tmp_path, make_request(), kernels)
        damage(entry / name)
        with pytest.raises(store.CorruptEntry, match=entry.name):
            store.verify(entry)
        store.discard(entry)
        assert names(tmp_path) == []


def test_an_entry_under_another_name_is_corrupt(tmp_path, make_request):
    entry = cache.write(tmp_path, make_request(seed=1), some_kernels(4))
    other = entry.rename(tmp_path / cache.key(make_request(seed=2)))
    with pytest.raises(store.CorruptEntry, match="hash to another name"):
        store.verify(other)


def test_only_a_corrupt_entry_is_discarded(tmp_path, make_request):
    """Of two processes that find an entry corrupt, the slower one meets what the faster one has rendered anew."""
    entry = cache.write(tmp_path, make_request(), some_kernels(4))
    store.discard(entry)
    store.verify(entry)


def write_and_check(arguments):
    directory, request = arguments
    entry = cache.write(directory, request, some_kernels(4))
    store.verify(entry)
    return entry


def test_racing_processes_all_succeed_and_leave_one_entry(tmp_path, make_request):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        entries = set(processes.map(write_and_check, [(tmp_path, make_request())] * 40))
    assert names(tmp_path) == [entry.name for entry in entries]


def test_a_failed_write_leaves_nothing(tmp_path, make_request, monkeypatch):
    def full_disk(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(store, "sync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        cache.write(tmp_path, make_request(), some_kernels(4))
    assert names(tmp_path) == []


class Slow:
    """An array whose content is not there before `go` is set."""

    def __init__(self, array, started, go):
        self.array, self.shape, self.dtype, self.nbytes = array, array.shape, array.dtype, array.nbytes
        self.started, self.go = started, go

    def __array__(self, dtype=None, copy=None):
        self.started.set()
        self.go.wait()
        return self.array


def write_slowly(directory, request, started, go):
    kernels = some_kernels(4)
    slow: Any = Slow(kernels.lost, started, go)
    cache.write(directory, request, dataclasses.replace(kernels, lost=slow))


@pytest.fixture
def slow_writer(tmp_path, make_request):
    """A process in the middle of writing the entry of seed 99, and the event that lets it finish."""
    spawn = get_context("spawn")
    started, go = spawn.Event(), spawn.Event()
    process = spawn.Process(target=write_slowly, args=(tmp_path, make_request(seed=99), started, go))
    process.start()
    assert started.wait(timeout=120)
    yield process, go
    process.kill()
    process.join()


def test_a_killed_writer_s_leftovers_are_removed_by_the_next_writer(tmp_path, make_request, slow_writer):
    process, _ = slow_writer
    process.kill()
    process.join()
    [leftover] = names(tmp_path)
    assert leftover.startswith(".")
    entry = cache.write(tmp_path, make_request(), some_kernels(4))
    assert names(tmp_path) == [entry.name]


def test_a_killed_writer_s_leftovers_are_removed_with_what_expires(tmp_path, slow_writer):
    process, _ = slow_writer
    process.kill()
    process.join()
    assert store.expire(tmp_path, before=0) == []
    assert names(tmp_path) == []


def test_a_living_writer_is_not_disturbed(tmp_path, make_request, slow_writer):
    entry, slow_entry = (
        cache.write(tmp_path, make_request(), some_kernels(4)),
        tmp_path / cache.key(make_request(seed=99)),
    )
    store.verify(entry)
    assert len(names(tmp_path)) == 2
    process, go = slow_writer
    go.set()
    process.join()
    assert process.exitcode == 0
    store.verify(slow_entry)
    assert names(tmp_path) == sorted([entry.name, slow_entry.name])


def write_and_evict(directory, request):
    for _ in range(60):
        cache.write(directory, request, some_kernels(4))
        store.evict(directory, limit=0)


def read_often(directory, request):
    expected, entry = some_kernels(4).kernels, directory / cache.key(request)
    for _ in range(300):
        try:
            kernels = cache.read(entry)
        except FileNotFoundError:
            continue
        np.testing.assert_array_equal(kernels.kernels, expected)


def test_a_reader_sees_an_entry_whole_or_not_at_all_while_others_write_and_evict(tmp_path, make_request):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for done in [processes.submit(work, tmp_path, make_request()) for work in (write_and_evict, read_often)]:
            done.result()
    assert names(tmp_path) == []


def test_a_mapped_entry_outlives_its_removal(tmp_path, make_request):
    mapped = cache.read(cache.write(tmp_path, make_request(), some_kernels(4)))
    assert len(store.evict(tmp_path, limit=0)) == 1
    np.testing.assert_array_equal(mapped.kernels, some_kernels(4).kernels)


@pytest.fixture
def aged(tmp_path, make_request):
    """Four entries of about equal size, the first one unused the longest: since 1e9 s after the epoch, then 1 s less each."""
    written = [cache.write(tmp_path, make_request(seed=seed), some_kernels(4)) for seed in range(4)]
    for age, entry in enumerate(written):
        os.utime(entry / "manifest.json", (1e9 + age, 1e9 + age))
    return written


def test_the_least_recently_used_entries_go_first(tmp_path, aged):
    first, second, third, fourth = aged
    sizes = {entry.path: entry.size for entry in store.entries(tmp_path)}
    assert sizes[first] == sum(path.stat().st_size for path in first.iterdir())
    cache.read(first)
    assert store.evict(tmp_path, limit=sum(sizes.values())) == []
    assert [entry.path for entry in store.evict(tmp_path, limit=sizes[first] + sizes[fourth])] == [second, third]
    assert names(tmp_path) == sorted([first.name, fourth.name])


def test_entries_to_keep_stay_and_are_the_last_used(tmp_path, aged):
    first, second, third, fourth = aged
    assert [entry.path for entry in store.evict(tmp_path, limit=0, keep=[first, third])] == [second, fourth]
    os.utime(third / "manifest.json", (1e9, 1e9))
    assert [entry.path for entry in store.entries(tmp_path)] == [third, first]


def test_entries_expire(tmp_path, aged):
    assert [entry.path for entry in store.expire(tmp_path, before=1e9 + 2)] == aged[:2]


def test_what_is_no_entry_is_never_removed(tmp_path, make_request):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "manifest.json").write_text("{}")
    (tmp_path / ("a" * 64)).mkdir()
    (tmp_path / ("b" * 64)).write_text("a file")
    (tmp_path / ("c" * 64)).symlink_to(tmp_path / "thesis")
    before = names(tmp_path)
    assert [path.name for path in store.foreign(tmp_path)] == before
    cache.write(tmp_path, make_request(), some_kernels(4))
    assert len(store.evict(tmp_path, limit=0)) == 1
    assert names(tmp_path) == before
    assert (tmp_path / "thesis" / "manifest.json").exists()


def test_a_missing_cache_is_empty_and_stays_missing(tmp_path):
    missing = tmp_path / "cache"
    assert store.entries(missing) == store.evict(missing, limit=0) == store.expire(missing, 1e9) == []
    assert not missing.exists()
