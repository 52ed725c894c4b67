import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import SpaceError
from trainables.images.decoding import Unreadable, decode
from trainables.images.folder import set_of
from trainables.images.image_data import ImageData
from trainables.images.preparation import ImagePreparation
from trainables.images.source import Layout
from trainables.images.sources import SOURCES

COLOUR, GREY = Layout(8, 3), Layout(8, 1)


def picture(level: tuple[int, ...] | int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, level)


def saved(path: Path, image: Image.Image, **keys) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **keys)
    return path


def pixel(path: Path, layout: Layout = COLOUR) -> list[int]:
    """The one colour of a picture."""
    found = decode(path, layout)
    assert found.shape == (layout.channels, 8, 8)
    assert found.dtype == np.uint8
    colours = found.reshape(layout.channels, -1)
    assert (colours == colours[:, :1]).all()
    return [int(level) for level in colours[:, 0]]


def palette() -> Image.Image:
    image = picture(1, mode="P")
    image.putpalette([0, 0, 0, 200, 100, 50])
    return image


def see_through() -> Image.Image:
    """A palette of which one colour is transparent."""
    image = palette()
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("name", "image", "colour", "grey"),
    [
        ("rgb.png", picture((200, 100, 50)), [200, 100, 50], 124),
        ("grey.png", picture(77, mode="L"), [77, 77, 77], 77),
        ("bits.png", picture(1, mode="1"), [255, 255, 255], 255),
        ("palette.png", palette(), [200, 100, 50], 124),
        ("palette.gif", palette(), [200, 100, 50], 124),
        ("see-through.png", see_through(), [255, 255, 255], 255),
        ("clear.png", picture((9, 9, 9, 0), mode="RGBA"), [255, 255, 255], 255),
        ("half.png", picture((55, 155, 255, 128), mode="RGBA"), [155, 205, 255], 195),
        ("grey-alpha.png", picture((40, 0), mode="LA"), [255, 255, 255], 255),
        ("cmyk.tif", picture((0, 255, 0, 0), mode="CMYK"), [255, 0, 255], 105),
        ("deep.png", Image.fromarray(np.full((8, 8), 0x8000, np.uint16)), [128, 128, 128], 128),
        ("deep.tif", Image.fromarray(np.full((8, 8), 0xFFFF, np.uint16)), [255, 255, 255], 255),
    ],
)
def test_pictures_of_every_mode_are_read(tmp_path, name, image, colour, grey):
    path = saved(tmp_path / name, image)
    assert pixel(path) == pytest.approx(colour, abs=1)
    assert pixel(path, GREY) == pytest.approx([grey], abs=1)


def test_cmyk_jpeg_is_read(tmp_path):
    path = saved(tmp_path / "cmyk.jpg", picture((0, 255, 0, 0), mode="CMYK"), quality=100)
    assert pixel(path) == pytest.approx([255, 0, 255], abs=3)


def test_the_middle_is_cut_out_and_scaled_by_area(tmp_path):
    image = np.zeros((16, 40), np.uint8)
    image[:, 12:28] = np.tile([[90, 110], [100, 100]], (8, 8))
    found = decode(saved(tmp_path / "wide.png", Image.fromarray(image)), GREY)
    inner = found[0, 1:-1, 1:-1].astype(int)
    assert abs(inner - 100).max() <= 4


def test_a_photograph_is_turned_as_its_camera_was(tmp_path):
    image = np.zeros((8, 8), np.uint8)
    image[:, :4] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = saved(tmp_path / "turned.png", Image.fromarray(image), exif=exif)
    assert (decode(path, GREY)[0, :4] == 200).all()
    assert (decode(path, GREY)[0, 4:] == 0).all()


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("page.png", lambda path: path.write_bytes(b"<html>403"), "cannot be read"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "cannot be read"),
        ("small.png", lambda path: saved(path, picture((1, 2, 3), (20, 7))), "20 x 7 pixels, too small for 8 x 8"),
        ("float.tif", lambda path: saved(path, Image.new("F", (8, 8), 0.5)), "mode F"),
        ("wide.tif", lambda path: saved(path, Image.new("I", (8, 8), 70_000)), "mode I"),
    ],
)
def test_what_is_no_usable_picture_is_told_by_name(tmp_path, name, write, said):
    write(tmp_path / name)
    with pytest.raises(Unreadable, match=said) as caught:
        decode(tmp_path / name, COLOUR)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_cut_short_is_told(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = saved(tmp_path / "short.png", noise)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(Unreadable, match=r"short\.png: cannot be read"):
        decode(path, COLOUR)


def folder(root: Path, count: int = 60) -> Path:
    """Pictures of one level each, their number, in two subfolders."""
    for number in range(count):
        saved(root / ("even", "odd")[number % 2] / f"{number}.png", picture((number, number, number), (10, 9)))
    return root


def data(root: Path, **keys) -> ImageData:
    return ImageData(images="folder", root=str(root), binarise="none", px=8, **keys)


def levels(entry: str) -> set[int]:
    images = np.load(Path(entry) / "images.npy")
    assert images.shape[1:] == (3, 8, 8)
    assert (images == images[:, :1, :1, :1]).all()
    return set(images[:, 0, 0, 0].tolist())


def test_sets_are_told_by_the_files_names(tmp_path, prepare):
    sets = prepare(data(folder(tmp_path / "pictures")))
    found = {name: levels(entry) for name, entry in sets.items()}
    assert set.union(*found.values()) == set(range(60))
    assert sum(map(len, found.values())) == 60
    assert len(found["train"]) > 40
    for name, numbers in found.items():
        assert all(set_of(f"{('even', 'odd')[number % 2]}/{number}.png") == name for number in numbers)


def test_a_picture_stays_in_its_set_when_others_come(tmp_path, prepare):
    before = {name: levels(entry) for name, entry in prepare(data(folder(tmp_path / "pictures"))).items()}
    after = {name: levels(entry) for name, entry in prepare(data(folder(tmp_path / "pictures", 90))).items()}
    assert all(before[name] == {number for number in after[name] if number < 60} for name in before)


def test_subfolders_are_the_sets_if_they_are_named_so(tmp_path, prepare):
    for name, numbers in {"train": range(10), "validation": range(10, 13), "test": range(20, 25)}.items():
        for number in numbers:
            saved(tmp_path / "sorted" / name / "deep" / f"{number}.jpg", picture((number,) * 3, (8, 8)), quality=100)
    found = {name: levels(entry) for name, entry in prepare(data(tmp_path / "sorted")).items()}
    assert found == {"train": set(range(10)), "validation": set(range(10, 13)), "test": set(range(20, 25))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: shutil.rmtree(root / "test"), "subfolder train but not test"),
        (lambda root: saved(root / "stray.png", picture((1, 1, 1))), "lies beside the subfolders"),
        (lambda root: (root / "test" / "2.png").unlink(), "too few for test"),
        (shutil.rmtree, "no folder"),
    ],
)
def test_folders_that_are_not_clear_are_refused_before_anything_is_decoded(tmp_path, change, said):
    root = tmp_path / "sorted"
    for name in ("train", "validation", "test"):
        for number in (1, 2):
            saved(root / name / f"{number}.png", picture((1, 1, 1)))
    SOURCES["folder"].find(str(root))
    change(root)
    with pytest.raises(SpaceError, match=said) as caught:
        SOURCES["folder"].find(str(root))
    assert "\n" not in str(caught.value)


def test_few_pictures_are_to_be_sorted_by_hand(tmp_path):
    with pytest.raises(SpaceError, match="subfolders train, validation and test"):
        SOURCES["folder"].find(str(folder(tmp_path / "pictures", 3)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpaceError, match="no picture is in"):
        SOURCES["folder"].find(str(tmp_path / "empty"))


def test_files_that_cannot_be_used_are_left_out_and_told_each_time(tmp_path):
    root = folder(tmp_path / "pictures")
    for name in ("broken.png", "torn.jpg"):
        (root / name).write_bytes(b"nothing")
    saved(root / "tiny.png", picture((0, 0, 0), (4, 4)))
    preparation, section = ImagePreparation(), data(root)
    told: list[tuple[int, int, str]] = []
    for _ in range(2):
        prepared = preparation.prepare(
            section, preparation.find(section), 0, tmp_path / "cache", 0, lambda *one: told.append(one)
        )
        text = "; ".join(prepared.warnings)
        assert all(name in text for name in ("broken.png", "torn.jpg", "tiny.png"))
        assert sum(int(warning.split()[0]) for warning in prepared.warnings) == 3
    assert prepared.work == {"images prepared": 0}
    assert told[-1][:2] == (63, 63)
    assert set.union(*(levels(entry) for entry in prepared.sets.values())) == set(range(60))


def test_a_folder_without_one_usable_picture_is_told(tmp_path, prepare):
    for name in ("train", "validation", "test"):
        for number in (1, 2):
            path = tmp_path / "sorted" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"nothing")
    with pytest.raises(
        SpaceError, match=r"none of 2 pictures can be used; the first that cannot, 1\.png: cannot be read"
    ):
        prepare(data(tmp_path / "sorted"))


def test_the_names_and_the_layout_are_part_of_the_key(tmp_path):
    root = folder(tmp_path / "pictures")
    preparation = ImagePreparation()

    def keys(section: ImageData) -> set[Path]:
        return set(preparation.places(section, preparation.find(section), 0, tmp_path).values())

    before = keys(data(root))
    assert keys(data(root)) == before
    assert not keys(data(root, channels=1)) & before
    flipped = keys(data(root, flip=True))
    assert len(flipped & before) == 2  # the held-out sets are the same
    (root / "even" / "0.png").rename(root / "even" / "zero.png")
    assert not keys(data(root)) & before


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_ray_tasks_make_the_same_bytes(tmp_path):
    root = folder(tmp_path / "pictures", 300)
    (root / "broken.png").write_bytes(b"nothing")
    preparation, section = ImagePreparation(), data(root)
    source = preparation.find(section)
    here = preparation.prepare(section, source, 0, tmp_path / "here", 0)
    there = preparation.prepare(section, source, 0, tmp_path / "there", 2)
    assert there.warnings == here.warnings
    for name in here.sets:
        assert (Path(here.sets[name]) / "images.npy").read_bytes() == (
            Path(there.sets[name]) / "images.npy"
        ).read_bytes()
