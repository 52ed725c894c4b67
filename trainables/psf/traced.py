"""The ray tracer in place of a trained network: what a model without errors would give, slowly and without gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from deeplens_workers.dataset import tracings
from deeplens_workers.kernel_optics import Distortion, KernelOptics, chief_ray_distortion
from deeplens_workers.kernels import Tracing
from deeplens_workers.lens_file import LensFile
from deeplens_workers.psf_data import PsfData
from deeplens_workers.render import KernelRenderer, load
from spaces.loading import load as load_space
from trainables.psf.model import PSFModel

ACROSS = 20
"""Chief rays along a side of the field, by which distortion is found."""


class TracedNetwork(nn.Module):
    """Kernels [N, C, K, K] of field points, traced one call after another.

    Args:
        optics: of the kernels; points have the distances that it varies, the others are its own.
    """

    def __init__(self, renderer: KernelRenderer, tracing: Tracing, optics: KernelOptics) -> None:
        super().__init__()
        self.renderer, self.tracing, self.optics = renderer, tracing, optics
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)  # says on which device it computes

    def predict(self, points: Tensor) -> Tensor:
        """Kernels [N, C, K, K] at points [N, d]."""
        columns = [*points[:, :2].detach().double().cpu().numpy().T]
        given = iter(points[:, 2:].detach().double().cpu().numpy().T)
        for name, known in (("depth_mm", self.optics.depths_mm), ("focus_mm", self.optics.focus_mm)):
            if name in self.optics.varied:
                columns.append(next(given))
            elif known:
                columns.append(np.full(len(points), known[0]))
        places = np.stack(columns, axis=1).astype(np.float32)
        return torch.from_numpy(self.renderer.render(places, self.tracing).kernels).to(points.device)


def traced_model(*settings: str, space: str = "cvae_psf") -> PSFModel:
    """A model whose kernels are traced when they are asked for.

    Args:
        settings: KEY=VALUE of the space's data section, such as `data.focus_mm=[-2000, -5000]`.

    Raises:
        SpaceError: bad settings or a bad lens.
    """
    study = load_space(space, list(settings))
    preparation = study.system.make_preparation()
    lens = preparation.find(study.data)
    data = preparation.resolved(study.data, lens)
    assert isinstance(data, PsfData)
    assert isinstance(lens, LensFile)
    renderer, (tracing, _) = load(lens, data.pixel_pitch_um), tracings(data)
    distortion = () if data.centre == "pinhole" else _distortion(renderer, tracing, data)
    optics = KernelOptics.of(data, lens, distortion)
    return PSFModel(TracedNetwork(renderer, tracing, optics), optics)


def _distortion(renderer: KernelRenderer, tracing: Tracing, data: PsfData) -> tuple[Distortion, ...] | None:
    axis = np.linspace(-1, 1, ACROSS)
    distances = [one for one in (data.depths_mm, data.focus_mm) if one]
    points = np.array([(x, y, *far) for far in product(*distances) for y in axis for x in axis], np.float32)
    return chief_ray_distortion(points, renderer.render(points, tracing).chief_ray_offset_px, data)
