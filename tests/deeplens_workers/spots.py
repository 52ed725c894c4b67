"""Lenses of DeepLens whose model is a formula, and pictures to try them with."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplens_workers.kernel_optics import KernelOptics, fit_distortion
from deeplens_workers.psf_lens import PSFLens
from trainables.psf.model import PSFModel

CHANNELS = (((0.656, 1.0),), ((0.587, 1.0),), ((0.486, 1.0),))
HALF_UM = np.array([1200.0, 800.0])
SIDE, PULL = 9, 0.75
DEPTH = -1000.0


class Spots(nn.Module):
    """Gaussian spots, `PULL` pixels off the middle at the edges of the field, wider with each channel and with defocus."""

    def __init__(self, channels: int, distances: int) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.tensor(0.8))
        self.channels, self.distances, self.calls = channels, distances, 0

    def predict(self, points: Tensor) -> Tensor:
        self.calls += 1
        points = points.to(self.width)
        x, y, *distances = points.unbind(-1)
        assert len(distances) == self.distances
        vergence = sum(((-1) ** i * 1000 / one for i, one in enumerate(distances)), torch.zeros_like(x))
        width = self.width + 0.1 * torch.arange(self.channels) + 0.2 * vergence[:, None] ** 2
        axis = torch.arange(SIDE).to(points) - SIDE // 2
        column = torch.exp(-(((axis - PULL * x[:, None, None]) / width[..., None]) ** 2) / 2)
        row = torch.exp(-(((axis + PULL * y[:, None, None]) / width[..., None]) ** 2) / 2)
        kernels = row[..., :, None] * column[..., None, :]
        return kernels / kernels.sum(dim=(-2, -1), keepdim=True)


def made(**changes: object) -> PSFLens:
    """A lens of 240 x 160 pixels of 10 um."""
    facts = {
        "lens": "spots",
        "lens_sha256": "0" * 64,
        "kernel_px": SIDE,
        "pixel_um": 10.0,
        "channels": CHANNELS,
        "centre": "chief ray",
        "sensor_mm": (2.4, 1.6),
        "depths_mm": (DEPTH,),
        "focus_mm": (),
        "focal_length_mm": 4.0,
        "primary_um": 0.587,
        "distortion": (),
    }
    optics = KernelOptics(**(facts | changes))
    return PSFModel(Spots(len(optics.channels), len(optics.varied)), optics).to_lens()


def focusing(**changes: object) -> PSFLens:
    return made(depths_mm=(DEPTH, -400.0), focus_mm=(-900.0, -500.0), **changes)


def barrel(ideal: NDArray[np.float64]) -> NDArray[np.float64]:
    r2 = np.sum((ideal * HALF_UM / HALF_UM[0]) ** 2, axis=-1, keepdims=True)
    return np.asarray(ideal * (1 - 0.04 * r2))


def distorting() -> PSFLens:
    axis = np.linspace(-1, 1, 13)
    ideal = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return made(distortion=(fit_distortion(ideal, barrel(ideal), HALF_UM, DEPTH),))


def centroid(light: Tensor) -> Tensor:
    """(column, row) of light [..., H, W] in pixels."""
    rows, columns = light.shape[-2:]
    weights = light / light.sum(dim=(-2, -1), keepdim=True)
    x = (weights.sum(-2) * torch.arange(columns)).sum(-1)
    y = (weights.sum(-1) * torch.arange(rows)).sum(-1)
    return torch.stack([x, y], dim=-1)


def psnr(a: Tensor, b: Tensor, border: int = 20) -> float:
    inner = (..., slice(border, -border), slice(border, -border))
    return float(-10 * torch.log10(((a[inner] - b[inner]) ** 2).mean().detach()))


def picture(rows: int = 160, columns: int = 240, scale: int = 5) -> Tensor:
    """[1, 3, rows, columns] of smooth random patterns."""
    coarse = torch.rand(1, 3, rows // scale, columns // scale, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, (rows, columns), mode="bicubic").clamp(0, 1)


def network_of(lens: PSFLens) -> Spots:
    assert isinstance(lens.model, PSFModel)
    assert isinstance(lens.model.network, Spots)
    return lens.model.network
