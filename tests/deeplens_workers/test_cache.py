import dataclasses
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from deeplens_workers import cache
from deeplens_workers.kernels import Kernels
from deeplens_workers.lens_file import LENSES, find_lens


def some_kernels(points: int) -> Kernels:
    rng = np.random.default_rng(0)
    return Kernels(
        kernels=rng.random((points, 3, 15, 15), dtype=np.float32),
        chief_ray_offset_px=rng.random((points, 2), dtype=np.float32),
        rms_radius_px=rng.random((points, 3), dtype=np.float32),
        lost=rng.random((points, 3), dtype=np.float32),
    )


def test_what_is_written_is_read_by_memory_map(tmp_path, make_request):
    request, kernels = make_request(5), some_kernels(5)
    entry = cache.write(tmp_path, request, kernels)
    cache.verify(entry)
    for name in Kernels.names():
        stored = getattr(cache.read(entry), name)
        assert isinstance(stored, np.memmap)
        np.testing.assert_array_equal(stored, getattr(kernels, name))
    np.testing.assert_array_equal(cache.read_points(entry), request.points)
    manifest = json.loads((entry / "manifest.json").read_text())
    assert manifest["lens"] == {"name": "cooke_triplet_50mm", "sha256": request.lens.sha256}
    assert manifest["files"]["kernels"]["shape"] == [5, 3, 15, 15]
    assert "mm" in manifest["files"]["points"]["unit"]
    assert [path.name for path in tmp_path.iterdir()] == [entry.name]


def test_every_parameter_is_part_of_the_key(tmp_path, make_request, monkeypatch):
    request = make_request()
    other_lens = tmp_path / "cooke_triplet_50mm.json"
    other_lens.write_text((LENSES / "cooke_triplet_50mm.json").read_text() + "\n")
    changes = {
        "lens": find_lens(str(other_lens)),
        "points": np.nextafter(request.points, np.float32(0)),
        "pixel_pitch_um": 3.3,
        "wavelengths_um": (0.656, 0.486, 0.587),
        "trace_px": 65,
        "kernel_px": 16,
        "rays": 257,
        "seed": 1,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(request)}
    keys = {cache.key(request), *(cache.key(make_request(**{name: value})) for name, value in changes.items())}
    monkeypatch.setattr(cache, "RENDER_VERSION", -1)
    keys.add(cache.key(request))
    assert len(keys) == len(changes) + 2


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
        with pytest.raises(cache.CorruptEntry, match=entry.name):
            cache.verify(entry)
        cache.discard(entry)
        assert list(tmp_path.iterdir()) == []


def write_and_check(arguments):
    directory, request = arguments
    entry = cache.write(directory, request, some_kernels(4))
    cache.verify(entry)
    return entry


def test_racing_processes_all_succeed_and_leave_one_entry(tmp_path, make_request):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        entries = set(processes.map(write_and_check, [(tmp_path, make_request())] * 40))
    assert list(tmp_path.iterdir()) == list(entries)


def test_a_failed_write_leaves_nothing(tmp_path, make_request, monkeypatch):
    def full_disk(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(cache, "_sync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        cache.write(tmp_path, make_request(), some_kernels(4))
    assert list(tmp_path.iterdir()) == []
