import os

import pytest

from spaces.files import replacing, write


@pytest.fixture(params=[0o022, 0o027], ids=["022", "027"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_has_the_permissions_that_the_user_s_umask_leaves(tmp_path, umask):
    for content in (b"first", b"second"):  # also one that replaces another
        write(tmp_path / "model.safetensors", content)
        assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_of_two_writers_at_once_each_writes_a_file_of_its_own(tmp_path):
    """As two containers on shared storage, whose processes have the same number."""
    path = tmp_path / "driver.json"
    with replacing(path) as slow:
        slow.write_bytes(b"fir")
        write(path, b"second")
        assert path.read_bytes() == b"second"
        slow.write_bytes(b"first")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["driver.json"]
