"""Exports: what is written predicts the same when read, also what the format before wrote; anything else is refused in a line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spaces.errors import SpaceError
from spaces.system import system
from trainables.exports import export, load_model
from trainables.psf.cvae import CVAE, CvaeConfig

FLAT = CvaeConfig(2, 7, {}, latent_dim=5, hidden_dim=16, num_layers=2, fourier_bands=3)
DEEP = CvaeConfig(
    2,
    7,
    {"depth_mm": (0.1, 2.0), "focus_mm": (0.1, 2.0)},
    latent_dim=5,
    hidden_dim=16,
    num_layers=2,
    fourier_bands=3,
    learned_variance=True,
)
FORMAT_2: dict[str, Any] = {
    "format": 2,
    "channels": 1,
    "kernel_px": 3,
    "diopter_ranges": {"depth_mm": [0.1, 2.0]},
    "latent_dim": 2,
    "hidden_dim": 4,
    "num_layers": 1,
    "fourier_bands": 1,
    "learned_variance": False,
}
"""A config.json of the format before, and below the shapes of the weights beside it."""
SHAPES = {
    "encoder.mlp.0.weight": (4, 18),
    "encoder.mlp.0.bias": (4,),
    "encoder.mlp.2.weight": (4, 4),
    "encoder.mlp.2.bias": (4,),
    "prior_network.mlp.0.weight": (4, 9),
    "prior_network.mlp.0.bias": (4,),
    "prior_network.mlp.2.weight": (4, 4),
    "prior_network.mlp.2.bias": (4,),
    "decoder.0.weight": (4, 11),
    "decoder.0.bias": (4,),
    "decoder.2.weight": (9, 4),
    "decoder.2.bias": (9,),
}


def loaded(directory: Path) -> CVAE:
    model = load_model(directory)
    assert isinstance(model, CVAE)
    return model


def rewritten(directory: Path, **changes: Any) -> None:
    """An export whose config.json has other values; None takes a key away."""
    config = json.loads((directory / "config.json").read_text()) | changes
    text = json.dumps({name: value for name, value in config.items() if value is not None})
    (directory / "config.json").write_text(text)


@pytest.mark.parametrize("config", [FLAT, DEEP])
def test_an_exported_model_predicts_the_same_from_physical_units(tmp_path, config):
    model, xy = CVAE(config), torch.rand(4, 2) * 2 - 1
    distances = torch.linspace(-10000, -500, 4)[:, None].expand(-1, len(config.diopter_ranges))
    at = torch.cat([xy, distances], dim=1)
    export(model, "cvae_psf", tmp_path / "model")
    read = loaded(tmp_path / "model")
    assert read.config == config
    assert torch.equal(read.predict(at), model.predict(at))
    assert not read.training
    assert not any(weight.requires_grad for weight in read.parameters())
    moved = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(read.predict(moved)[:, 0, 0, 0].sum(), moved)
    assert gradient.abs().sum() > 0  # usable inside a differentiable renderer


def test_an_export_names_its_system_and_the_version_of_that(tmp_path):
    export(CVAE(DEEP), "cvae_psf", tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    config = record.pop("config")
    assert record == {"format": 3, "system": "cvae_psf", "system_version": system("cvae_psf").version}
    assert CvaeConfig.from_dict(config) == DEEP


def test_an_export_of_the_format_before_predicts_what_it_did(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(FORMAT_2))
    weights = {
        name: torch.arange(torch.Size(shape).numel()).add(place).sin().reshape(shape)
        for place, (name, shape) in enumerate(SHAPES.items())
    }
    save_file(weights, tmp_path / "model.safetensors")
    # Of the program that wrote the format.
    kernel = [
        [0.009391370229423046, 0.264302521944046, 0.026112807914614677],
        [0.14519593119621277, 0.3386904299259186, 0.007032087538391352],
        [0.10346439480781555, 0.09391560405492783, 0.011894946917891502],
    ]
    found = loaded(tmp_path).predict(torch.tensor([[0.3, -0.7, -1500.0]]))
    torch.testing.assert_close(found, torch.tensor([[kernel]]))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 99}, "expected format 3 or 2, but got 99"),
        ({"format": None}, "expected format 3 or 2, but got None"),
        ({"system_version": 99}, f"version 99 of cvae_psf, this program has {system('cvae_psf').version}"),
        ({"system": "cvae_of_psfs"}, "no system 'cvae_of_psfs'"),
        ({"system": None}, "'system'"),
        ({"config": {"channels": 3}}, "diopter_ranges"),
    ],
)
def test_an_export_of_another_format_system_or_version_is_refused(tmp_path, changes, why):
    export(CVAE(FLAT), "cvae_psf", tmp_path)
    rewritten(tmp_path, **changes)
    with pytest.raises(SpaceError, match=why) as told:
        load_model(tmp_path)
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04.", b"[]"])  # the third is a pickle: not even looked into
def test_a_damaged_export_is_refused(tmp_path, name, content):
    export(CVAE(FLAT), "cvae_psf", tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        SpaceError, match="missing; this is not" if content is None else "not an exported model"
    ) as told:
        load_model(tmp_path)
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


def test_weights_of_another_network_are_refused(tmp_path):
    export(CVAE(FLAT), "cvae_psf", tmp_path)
    export(CVAE(DEEP), "cvae_psf", tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(SpaceError, match="not an exported model of this version"):
        load_model(tmp_path)


@pytest.mark.parametrize("place", ["none", "file"])
def test_what_is_no_directory_of_an_export_is_refused(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(SpaceError, match=place):
        load_model(tmp_path / place)


def test_the_directory_of_a_run_leads_to_its_model(tmp_path):
    export(CVAE(FLAT), "cvae_psf", tmp_path / "model")
    with pytest.raises(SpaceError, match=str(tmp_path / "model")):
        load_model(tmp_path)
