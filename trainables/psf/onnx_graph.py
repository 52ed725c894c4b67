"""The graph of a PSF model: field points -> kernels, with all that its kernels are of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deeplens_workers.kernel_optics import KernelOptics
from trainables.onnx_file import Graph, Port
from trainables.psf.model import PSFModel


class _Kernels(nn.Module):
    def __init__(self, model: PSFModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model.predict(points)


def kernel_graph(model: PSFModel) -> Graph:
    """`points` [N, d] -> `kernels` [N, C, K, K], both float32: `PSFModel.predict`."""
    optics = model.optics
    example = torch.tensor([[0.0, 0.5, *(distances[0] for distances in optics.varied.values())]]).repeat(2, 1)
    return Graph(
        _Kernels(model),
        inputs=((Port("points", ("N",), points_meaning(optics)), example),),
        outputs=(Port("kernels", ("N",), kernels_meaning(optics, "N")),),
        title=f"Point spread functions of {optics.lens}",
        facts=graph_facts(optics, encoder="not in this file: kernels are the decoder's for the prior's mean"),
    )


def points_meaning(optics: KernelOptics, free: str = "N") -> str:
    """What a point's coordinates are, in words."""
    wide, tall = optics.sensor_mm
    distances = [
        f"{name}: the {'object' if name == 'depth_mm' else 'focus'} distance in mm, {min(several):g} to {max(several):g}"
        for name, several in optics.varied.items()
    ]
    names = ", ".join(("x", "y", *optics.varied))
    return "; ".join(
        [
            f"[{free}, {2 + len(optics.varied)}] float32: {names}",
            f"x right and y up in [-1, 1], the edges of the sensor of {wide:.6g} x {tall:.6g} mm, of the ideal image point",
            *distances,
        ]
    )


def kernels_meaning(optics: KernelOptics, free: str) -> str:
    """What the kernels are, in words."""
    side = optics.kernel_px
    colours = ", ".join(f"{one:.4g}" for one in optics.wavelengths_um)
    return (
        f"[{free}, {len(optics.channels)}, {side}, {side}] float32: kernels, each channel of unit sum; channels at {colours} um; "
        f"row 0 is the top (+y); pixels of {optics.pixel_um:.6g} um on the sensor; the {optics.centre} is in the middle of the window"
    )


def graph_facts(optics: KernelOptics, encoder: str) -> dict[str, str]:
    """All of `optics` as JSON, and the numbers that are needed most on their own.

    Args:
        encoder: why it is not in the file.
    """
    return {
        "optics": optics.model_dump_json(),
        "lens": optics.lens,
        "pixel_um": repr(optics.pixel_um),
        "kernel_px": repr(optics.kernel_px),
        "pixel_filter": optics.pixel_filter,
        "centre": optics.centre,
        "wavelengths_um": ", ".join(f"{one:.6g}" for one in optics.wavelengths_um),
        "sensor_mm": ", ".join(map(repr, optics.sensor_mm)),
        "depths_mm": ", ".join(map(repr, optics.depths_mm)),
        "focus_mm": ", ".join(map(repr, optics.focus_mm)) or "as in the lens file",
        "distortion": "not in the kernels: optics.distortion maps places of the sensor to ideal image points (x, y)"
        if optics.distortion
        else "in the kernels"
        if optics.distortion is not None
        else "not known",
        "encoder": encoder,
    }
