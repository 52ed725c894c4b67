"""A model of kernels in the page of a report, against the model itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in
from deeplens_workers.psf_data import PsfData
from results.explorer import file
from spaces.explorer import MOST_NUMBERS
from spaces.loading import load
from tests.pages import agrees, chromium, explored, opened, predicted
from tests.trainables.psf.synthetic import blobs
from trainables.exports import export
from trainables.psf import explorer
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.data import PsfSplit
from trainables.psf.explorer import psf_explorer
from trainables.psf.metrics import relative_l2
from trainables.psf.principal import Components
from trainables.psf.turning import Turned

RANGES = {"depth_mm": (0.05, 0.2), "focus_mm": (0.06, 0.18)}
DATA = fill_in(PsfData.model_validate(load("cvae_psf").data), find_lens("cooke_triplet_50mm"))
MLP = CvaeConfig(3, 15, {}, latent_dim=8, hidden_dim=48, num_layers=2, fourier_bands=10)
CONV = replace(MLP, kernel_px=16, network="conv", prior="standard", base_width=4, fourier_bands=2)
BASIS = replace(MLP, network="basis", components=12, fourier_bands=2)
TURNED = replace(BASIS, kernel_px=8, turned=Turned(16, 0.8))
CONFIGS = {
    "mlp": MLP,
    "mlp over depth and focus": replace(MLP, diopter_ranges=RANGES, fourier_bands=3),
    "standard prior": replace(MLP, prior="standard", fourier_bands=2),
    "conv": CONV,
    "conv, learned prior": replace(CONV, prior="learned", norm="group", upsampling="bilinear"),
    "conv, no norm": replace(CONV, norm="none", upsampling="transposed4"),
    "basis": BASIS,
    "turned basis": replace(TURNED, diopter_ranges=RANGES, defocus=True),
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def points_of(config: CvaeConfig, count: int, seed: int) -> torch.Tensor:
    """Random field points [N, d]."""
    random = torch.Generator().manual_seed(seed)
    field = torch.rand(count, 2, generator=random) * 2 - 1
    away = [
        -1000 / (low + (high - low) * torch.rand(count, generator=random))
        for low, high in config.diopter_ranges.values()
    ]
    return torch.cat([field, *(one[:, None] for one in away)], dim=1)


def model_of(config: CvaeConfig) -> CVAE:
    """Not trained, but its kernels vary: strong last layers, statistics of their own, components of blobs."""
    torch.manual_seed(0)
    basis = None
    if config.network == "basis":
        side = 32 if config.turned else config.kernel_px
        places = np.random.default_rng(0).uniform(0, 0.5, (60, 3)) - [0, 0, 1e4]
        made = torch.from_numpy(blobs(places.astype(np.float32), side, 3))
        basis = Components.fit(made, mirrored=config.turned is not None)
        config = replace(config, samples=basis.components.shape[1])
    model = CVAE(config, basis)
    with torch.no_grad():
        model.decoder.head.weight.mul_(1 if config.network == "basis" else 2)
        if config.prior == "learned":
            model.prior_network.mlp.head.weight[: config.latent_dim].mul_(100)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.weight.mul_(2.5)
        for name, statistics in model.named_buffers():
            if name.endswith("running_mean"):
                statistics.uniform_(-0.5, 0.5)
            if name.endswith("running_var"):
                statistics.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


def run_of(directory, config: CvaeConfig, model: CVAE | None = None):
    model, points = model or model_of(config), points_of(config, 20, seed=1)
    true = model.predict(points).roll(1, dims=0)  # anything but its own
    made = psf_explorer(model, PsfSplit(true, points), DATA)
    export(model, "cvae_psf", directory / "model")
    file.write(directory / "explorer.safetensors", made)
    return model, made


@pytest.mark.parametrize("name", CONFIGS)
def test_the_model_in_the_page_is_the_model(name, tmp_path, browser):
    config = CONFIGS[name]
    model, made = run_of(tmp_path, config)
    points = points_of(config, 50, seed=2)
    wanted = model.predict(points)
    assert relative_l2(wanted, wanted.mean(dim=0, keepdim=True)).mean() > 0.01  # they vary
    with opened(browser, explored(tmp_path), tmp_path / "page.html") as page:
        agrees(predicted(page, points.tolist()), wanted.numpy())
        # The error that the page finds at a held-out position is the one that was measured.
        first = made.arrays["points"][0, 3].tolist()
        ask = "p => { const e = document.getElementById('explorer').explorer; e.go(p); return e.render().error; }"
        assert page.evaluate(ask, first) == pytest.approx(made.arrays["error"][0, 3], rel=0.02, abs=1e-3)


def test_a_slider_moves_the_latent_from_the_prior_s_mean(tmp_path, browser):
    model, made = run_of(tmp_path, MLP)
    point = torch.tensor([[0.3, -0.2]])
    moved = model.prior(point).mu + 2 * torch.from_numpy(made.arrays["directions"][0])
    with opened(browser, explored(tmp_path), tmp_path / "page.html") as page:
        page.fill("#explorer-latent-0", "2")
        agrees(predicted(page, point.tolist()), model.decode(moved, point).numpy())


def test_a_model_too_large_for_a_page_leaves_its_kernels_on_a_grid(tmp_path, browser, monkeypatch):
    monkeypatch.setattr(explorer, "MOST_NUMBERS", 0)
    config = replace(MLP, diopter_ranges={"depth_mm": RANGES["depth_mm"]}, fourier_bands=2)
    model, made = run_of(tmp_path, config)
    across, up, away = made.description["grid"]["axes"]
    node = torch.tensor([[across[3], up[9], away[1]]])
    aside = node + torch.tensor([0.05, -0.05, -10])  # of which it is the nearest
    with opened(browser, explored(tmp_path, most_bytes=1000), tmp_path / "page.html") as page:
        agrees(predicted(page, aside.tolist()), model.predict(node).numpy())
        assert "on a grid" in page.inner_text("#explorer")
        assert not page.is_visible("#explorer-latents")


@pytest.mark.slow
def test_a_page_of_the_largest_network_of_the_document_has_less_than_20_megabytes(tmp_path, browser):
    config = replace(MLP, latent_dim=256, hidden_dim=1024, num_layers=5)
    torch.manual_seed(0)
    model, _ = run_of(tmp_path, config, CVAE(config).eval().requires_grad_(False))
    assert sum(one.numel() for one in model.state_dict().values()) > MOST_NUMBERS
    html = explored(tmp_path)
    assert len(html) < 19_000_000
    points = points_of(config, 10, seed=2)
    with opened(browser, html, tmp_path / "page.html") as page:
        assert "12 bits" in page.inner_text("#explorer")
        agrees(predicted(page, points.tolist()), model.predict(points).numpy())
