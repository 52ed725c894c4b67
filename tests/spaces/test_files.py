import os

import pytest

from spaces.files import write


@pytest.fixture(params=[0o022, 0o027], ids=["022", "027"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_has_the_permissions_that_the_user_s_umask_leaves(tmp_path, umask):
    for content in (b"first", b"second"):  # also one that replaces another
        write(tmp_path / "model.safetensors", content)
        assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
