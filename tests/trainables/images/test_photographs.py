import numpy as np
import pytest

from spaces.errors import SpaceError
from tests.trainables.images.test_sources import distinct, read
from trainables.images import photographs
from trainables.images.photographs import COLOURED, GREY, column_of_blocks, column_role, training_strips
from trainables.images.sources import SOURCES


def numbered(height: int, width: int) -> np.ndarray:
    """A picture in which no two pixels are alike."""
    return np.arange(height * width).reshape(1, height, width)


def test_no_held_out_pixel_is_in_a_training_strip_and_none_is_lost_but_at_the_bottom():
    picture = numbered(21, 43)
    columns = ["train", "test", "validation", "train", "train", "test", "train", "train", "train", "train"]
    strips = training_strips(picture, columns, 4)
    blocks = [
        block
        for column, role in enumerate(columns)
        if role != "train"
        for block in column_of_blocks(picture, column, 4)
    ]
    assert [strip.shape for strip in strips] == [(1, 21, 4), (1, 21, 8), (1, 21, 19)]
    assert all(block.shape == (1, 4, 4) for block in blocks)
    trained = set(np.concatenate([strip.ravel() for strip in strips]).tolist())
    held_out = np.concatenate([block.ravel() for block in blocks])
    assert len(set(held_out.tolist())) == len(held_out) == 3 * 20 * 4
    assert not trained & set(held_out.tolist())
    assert len(trained) + len(held_out) == 21 * 43 - 3 * 4


def test_one_column_in_ten_is_test_and_the_next_one_validation():
    roles = [column_role(number) for number in range(100)]
    assert (roles.count("test"), roles.count("validation")) == (10, 10)
    assert all(roles[number + 1] == "validation" for number in range(99) if roles[number] == "test")


@pytest.mark.parametrize(
    ("images", "names", "channels", "px"), [("patches", COLOURED, 3, 32), ("patches_grey", GREY, 1, 64)]
)
def test_photographs_are_cut_into_disjoint_sets(images, names, channels, px):
    sets = read(images, px=px)
    train = sets["train"]
    assert train.windows is not None
    assert train.images.shape[:2] == (1, channels)
    assert (train.windows[:, 2:] >= px).all()
    held_out = np.concatenate([sets[name].images for name in ("validation", "test")])
    assert held_out.shape[1:] == (channels, px, px)
    assert len(sets["validation"].images) >= 100
    assert len(sets["test"].images) >= 100
    assert set(train.labels) == set(range(len(names)))
    # Blocks with a structure of their own are nowhere in what is trained on.
    canvas = train.images[0, 0]
    rows = {row.tobytes() for row in np.lib.stride_tricks.sliding_window_view(canvas, px, axis=1).reshape(-1, px)}
    lively = [block[0] for block in held_out if block.std() > 20]
    assert len(lively) > 20
    assert not any(all(row.tobytes() in rows for row in block) for block in lively)


def test_the_second_of_a_stereo_pair_is_left_out():
    assert "motorcycle_right.png" not in {*COLOURED, *GREY}


def test_crops_larger_than_the_photographs_are_refused():
    with pytest.raises(SpaceError, match=r"data\.px: 900 pixels are too many"):
        read("patches", px=900)


def test_a_photograph_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "astronaut.png").write_bytes(b"<html>")
    monkeypatch.setattr(photographs, "packaged", lambda *_: [tmp_path / "astronaut.png"])
    with pytest.raises(SpaceError, match=r"astronaut\.png: cannot be read"):
        read("patches")


def test_scikit_image_carries_them_all():
    assert [path.name for path in SOURCES["patches_grey"].find(None)] == list(GREY)
    assert len(distinct(np.stack([np.asarray([hash(path.name)]) for path in SOURCES["patches"].find(None)]))) == len(
        COLOURED
    )
