"""The copy of a directory: what comes back, what is refused, what is written again."""

import json

import pytest

from search.storage.bucket import Bucket, BucketError, Changed
from search.storage.mirror import DamagedCopy, Mirror


def put(mirror: Mirror, **files: bytes) -> None:
    """Make these the copy."""
    mirror.publish({name: mirror.put(content) for name, content in files.items()})


def content(directory) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def mirror(bucket):
    one = Mirror(bucket / "run")
    assert not one.read()
    return one


def objects(mirror: Mirror) -> list[str]:
    return (mirror.bucket / "objects").names()


def test_a_directory_becomes_what_the_copy_is(mirror, tmp_path):
    mirror.publish({"a": mirror.put(b"same"), "b/c": mirror.put(b"same"), "b/d": mirror.put(b"other")})
    (tmp_path / "a").write_bytes(b"older")
    (tmp_path / "gone").write_bytes(b"")
    (tmp_path / "kept").write_bytes(b"")
    other = Mirror(mirror.bucket)
    assert other.read()
    other.fetch(tmp_path, ["a", "gone"])
    assert content(tmp_path) == {"a": b"same", "b/c": b"same", "b/d": b"other", "kept": b""}


def test_only_what_has_changed_is_written_and_what_is_gone_is_deleted(mirror):
    put(mirror, a=b"first", b=b"second")
    first = (mirror.bucket / "objects").get(mirror.files["a"].sha256)
    put(mirror, a=b"first", c=b"third")
    assert sorted(objects(mirror)) == sorted({one.sha256 for one in mirror.files.values()})
    assert (mirror.bucket / "objects").get(mirror.files["a"].sha256).modified == first.modified


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_object_is_refused_and_nothing_is_changed(mirror, tmp_path, damage):
    put(mirror, a=b"first", b=b"second")
    if damage == "changed":
        mirror.bucket.put(f"objects/{mirror.files['b'].sha256}", b"another")
    else:
        mirror.bucket.delete([f"objects/{mirror.files['b'].sha256}"])
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DamagedCopy, match="b is ") as error:
        mirror.fetch(tmp_path, ["a"])
    assert "\n" not in str(error.value)
    assert content(tmp_path) == {"a": b"mine"}


@pytest.mark.parametrize("name", ["../a", "/etc/a", "b/../../a", "", "b//a"])
def test_a_manifest_with_a_file_elsewhere_is_refused(mirror, name):
    listed = mirror.put(b"first").model_dump()
    mirror.bucket.put("manifest.json", json.dumps({"files": {name: listed}}).encode())
    with pytest.raises(DamagedCopy):
        mirror.read()


def test_a_copy_that_is_changed_while_it_is_read_is_read_again(mirror, tmp_path):
    put(mirror, a=b"first")
    reader = Mirror(mirror.bucket)
    reader.read()
    put(mirror, a=b"second")  # the first object is gone
    reader.fetch(tmp_path)
    assert content(tmp_path) == {"a": b"second"}


def test_of_two_writers_one_hears_of_the_other(mirror):
    put(mirror, a=b"first")
    late = Mirror(mirror.bucket)
    late.read()
    assert not late.changed()
    put(mirror, a=b"second")
    assert late.changed()
    with pytest.raises(Changed):
        put(late, a=b"third")
    assert (mirror.bucket / "objects").get(mirror.files["a"].sha256).data == b"second"


def test_a_manifest_that_was_written_though_its_answer_was_lost_is_ones_own(mirror, monkeypatch):
    put(mirror, a=b"first")
    write, answers = Bucket.put_over, iter([True, False])

    def put_over(bucket, name, body, tag):
        if next(answers):
            write(bucket, name, body, tag)
        raise BucketError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put_over", put_over)
        for lost in (b"second", b"third"):  # the one is written, the other is not
            with pytest.raises(BucketError, match="timed out"):
                put(mirror, a=lost)
    put(mirror, a=b"fourth")
    other = Mirror(mirror.bucket)
    assert other.read()
    assert other.files == mirror.files


def test_what_a_killed_writer_has_left_is_swept(mirror):
    put(mirror, a=b"first")
    mirror.put(b"never listed")
    assert len(objects(mirror)) == 2
    mirror.sweep()
    assert objects(mirror) == [mirror.files["a"].sha256]
