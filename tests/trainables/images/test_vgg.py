"""VGG16's weights: read from a file, checked, found in the cache; never downloaded."""

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spaces.errors import SpaceError
from tests.trainables.images.conftest import write_mnist
from tests.trainables.training.test_perceptual import random_weights
from trainables.images import vgg
from trainables.images.image_data import ImageData
from trainables.images.learner import ImageLearner
from trainables.images.preparation import ImagePreparation
from trainables.images.trial import VaeImageTrial
from trainables.training.perceptual import TENSORS, perceptual

LEARNER = ImageLearner()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """With more in it than is read, as torchvision's has."""
    path = tmp_path / "weights" / "vgg16.pth"
    path.parent.mkdir()
    torch.save({**random_weights(), "classifier.6.bias": torch.zeros(1000)}, path)
    return path


def data(tmp_path: Path, file: Path | None) -> ImageData:
    write_mnist(tmp_path)
    return ImageData(images="mnist", root=str(tmp_path), binarise="none", vgg16=str(file) if file is not None else None)


def test_both_formats_are_read_and_only_what_is_needed(file):
    save_file(random_weights(), file.with_suffix(".safetensors"))
    for path in (file, file.with_suffix(".safetensors")):
        found = vgg.read_vgg16(str(path))
        assert {name: array.shape for name, array in found.items()} == TENSORS
        assert torch.equal(torch.from_numpy(found["features.0.bias"]), random_weights()["features.0.bias"])


@pytest.mark.usefixtures("offline")
def test_a_missing_file_is_refused_before_any_work_and_nothing_is_fetched(tmp_path):
    missing = tmp_path / "nowhere" / "vgg16-397923af.pth"
    with pytest.raises(SpaceError, match=rf"data\.vgg16: {missing}: .*vgg16-397923af\.pth.*nothing is downloaded"):
        ImagePreparation().find(data(tmp_path, missing))


@pytest.mark.parametrize("content", [b"<html>404</html>", b"", b"\x80\x04."])
def test_what_is_no_file_of_weights_is_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(SpaceError, match=rf"{file}: not a file of weights"):
        vgg.read_vgg16(str(file))


def test_weights_of_another_network_are_refused_with_what_is_wrong(file):
    torch.save({**random_weights(), "features.5.weight": torch.zeros(64, 64, 3, 3)}, file)
    with pytest.raises(SpaceError, match=r"features\.5\.weight should be of shape \[128, 64, 3, 3\], is of shape \[64"):
        vgg.read_vgg16(str(file))
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, file)
    with pytest.raises(SpaceError, match=r"features\.0\.bias should be of shape \[64\], is missing"):
        vgg.read_vgg16(str(file))


def test_a_program_in_a_file_is_not_run(file, tmp_path):
    class Program:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it ran",)

    torch.save(Program(), file)
    with pytest.raises(SpaceError, match="not a file of weights"):
        vgg.read_vgg16(str(file))
    assert not (tmp_path / "it ran").exists()


def test_a_name_with_a_hash_is_held_against_the_content(file):
    digest = vgg.find_vgg16(str(file))
    good = shutil.copy(file, file.with_name(f"vgg16-{digest[:8]}.pth"))
    assert vgg.find_vgg16(str(good)) == digest
    bad = shutil.copy(file, file.with_name("vgg16-397923af.pth"))
    with pytest.raises(SpaceError, match="damaged: its SHA-256 begins with"):
        vgg.find_vgg16(str(bad))


def test_a_weight_without_a_file_is_refused(tmp_path):
    trial = VaeImageTrial(network="mlp", likelihood="gaussian_half", perceptual_weight=0.1)
    with pytest.raises(ValueError, match=r"needs `data\.vgg16`.*nothing is downloaded"):
        data(tmp_path, None).check(trial)


def test_from_the_file_to_the_loss(tmp_path, file, prepare):
    """Beside the sets of images in the cache; not a part of the network; per value, with the weight that the trial says."""
    sets = prepare(data(tmp_path, file))
    file.unlink()  # it is in the cache
    opened = LEARNER.open({name: entry for name, entry in sets.items() if name != "test"})
    assert opened.vgg is not None
    trial = VaeImageTrial(
        network="mlp", latent_dim=2, hidden_dim=4, likelihood="gaussian_half", perceptual_weight=0.1, batch_size=3
    )
    torch.manual_seed(0)
    network = LEARNER.build(trial, opened)
    assert not any("vgg" in name or "features" in name for name in network.state_dict())
    drawn = LEARNER.draw(trial, opened, torch.Generator().manual_seed(0))
    x, noise, compare = LEARNER.inputs(trial, opened, drawn)
    terms = network(x, noise, compare)
    raw = network.decode(network.encode(x).sample(noise[:, 0]))
    expected = perceptual(opened.vgg, network.likelihood.expectation(raw), x)
    torch.testing.assert_close(terms.distances["perceptual"], expected)
    from trainables.training.losses import Ranks

    values = LEARNER.loss(trial, terms, 1.0, Ranks())
    without = LEARNER.loss(
        trial.model_copy(update={"perceptual_weight": 0.0}), terms._replace(distances={}), 1.0, Ranks()
    )
    difference = values["loss"] - without["loss"]
    torch.testing.assert_close(difference, 0.1 * 64 * expected.mean(), atol=1e-3, rtol=1e-4)
    other = replace(opened, vgg=None)
    assert LEARNER.inputs(trial.model_copy(update={"perceptual_weight": 0.0}), other, drawn)[0].shape == x.shape
