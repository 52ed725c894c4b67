"""A decoder of images in the page of a report, against the decoder itself."""

from __future__ import annotations

import pytest
import torch

from results.explorer import file
from tests.pages import agrees, chromium, explored, opened, predicted
from trainables.exports import export
from trainables.images.data import ImageSplit
from trainables.images.explorer import image_explorer
from trainables.networks.vae import VAE, VaeConfig

SMALL = {"channels": 3, "px": 8, "latent_dim": 6, "base_width": 8, "hidden_dim": 16, "levels": 1}
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def run_of(directory, **config) -> VAE:
    torch.manual_seed(0)
    network = VAE(VaeConfig(**{**SMALL, **config}))
    if network.linear is not None:
        directions = torch.linalg.qr(torch.randn(192, 6)).Q
        network.linear.set(torch.rand(192), directions, torch.tensor([9.0, 5, 3, 2, 1, 0.5]), torch.tensor(0.1))
        *_, last, _ = network.decoder.parameters()  # it begins with nothing to add
        last.detach().normal_(std=0.05)
    network.eval().requires_grad_(False)
    levels = torch.randint(0, 256, (20, network.config.channels, 8, 8), dtype=torch.uint8)
    binary = network.likelihood.space == "binary"
    split = ImageSplit(levels % 2 if binary else levels, torch.arange(20) % 4, binary=binary, dynamic=False)
    export(network, "vae_image", directory / "model")
    file.write(directory / "explorer.safetensors", image_explorer(network, split))
    return network


@pytest.mark.parametrize(
    "config",
    [
        {"network": "mlp", "likelihood": "bernoulli"},
        {"network": "conv", "likelihood": "gaussian_learned", "ppca": True},
        {"network": "resnet", "likelihood": "continuous_bernoulli"},
        {"network": "conv", "likelihood": "none", "ppca": True},
        {"network": "mlp", "likelihood": "gaussian_pixel"},
    ],
    ids=lambda one: f"{one['network']} {one['likelihood']}",
)
def test_the_decoder_in_the_page_is_the_decoder(config, tmp_path, browser):
    network = run_of(tmp_path, **config)
    z = torch.randn(20, 6)
    with opened(browser, explored(tmp_path), tmp_path / "page.html") as page:
        agrees(predicted(page, z.tolist()), network.generate(z).numpy(), absolute=LEVEL / 2)
        before = page.evaluate("document.getElementById('explorer-moved').toDataURL()")
        page.fill("#explorer-latent-0", "3")
        assert page.evaluate("document.getElementById('explorer-moved').toDataURL()") != before


def test_a_decoder_that_a_page_does_not_know_leaves_pictures(tmp_path, browser):
    run_of(tmp_path, network="bottleneck", likelihood="gaussian_learned", channels=1)
    with opened(browser, explored(tmp_path), tmp_path / "page.html") as page:
        assert "precomputed" in page.inner_text("#explorer")
        before = page.evaluate("document.getElementById('explorer-moved').toDataURL()")
        page.fill("#explorer-step", "0")
        assert page.evaluate("document.getElementById('explorer-moved').toDataURL()") != before
        assert page.locator("#explorer-samples canvas").count() == 12
