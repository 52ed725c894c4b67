"""Pictures as a trained model's lens would take them, and sharp ones of what it took.

A picture [B, C, H, W] of a pinhole lies in the middle of the sensor. What the sensor has is that picture, distorted and then blurred: each pixel
by the kernel of the ideal image point that is seen there.

Shape legend: B = batch, C = channels, H, W = pixels, R, S = rows and columns of the map of kernels, k = kernel side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from trainables.imaging.borders import Border
from trainables.imaging.depth import DepthBlur, layer_depths
from trainables.imaging.low_rank import LowRankBlur
from trainables.imaging.operators import Chain, Operator
from trainables.imaging.patches import PatchBlur
from trainables.imaging.restore import richardson_lucy, wiener
from trainables.imaging.warp import Warp, pixel_places
from trainables.networks.gaussian import at_least_float32

if TYPE_CHECKING:
    from trainables.psf.model import PSFModel

Distance = float | Tensor | None
Method = Literal["richardson_lucy", "wiener"]


@dataclass(frozen=True)
class Rendering:
    """How pictures are rendered.

    Args:
        grid: (columns, rows) of the map of kernels.
        rank: of `LowRankBlur`, which has no seams and takes longer; 0: `PatchBlur`.
        layers: distances at which kernels are made for a map of depths.
        distortion: of the lens; False: pictures have it already, or shall not have it.
        border: what a picture is taken to be beyond its borders.
        pixel_um: side of a picture's pixel on the sensor; None: the largest at which the picture is on the sensor.
    """

    grid: tuple[int, int] = (24, 24)
    rank: int = 0
    layers: int = 8
    distortion: bool = True
    border: Border = "reflect"
    pixel_um: float | None = None

    def operator(self, model: PSFModel, size: tuple[int, int], depth: Distance, focus: Distance) -> Operator:
        """The lens as a linear map of pictures [B, C, H, W] of `size` (H, W), with its adjoint; see `PSFModel.operator`."""
        if not isinstance(depth, Tensor) or depth.ndim == 0:
            return self._flat(model, size, depth, focus)
        if depth.ndim != 4 or depth.shape[1] != 1 or tuple(depth.shape[2:]) != size:
            raise ValueError(f"depth is one number or a map [B, 1, {size[0]}, {size[1]}], but got {list(depth.shape)}")
        depth = at_least_float32(depth)
        depths = layer_depths(depth.detach(), self.layers)
        if self.distortion:  # the map is of the scene, as the picture is
            middle = 2 / (1 / depths[0] + 1 / depths[-1])
            beyond: Border = "replicate"  # whatever a picture is there, black or not: no distance is 0
            depth = 1 / self._warp(model, size, middle, focus, beyond)(1 / depth)
        return DepthBlur([self._flat(model, size, one, focus) for one in depths], depths, depth)

    def _flat(self, model: PSFModel, size: tuple[int, int], depth: Distance, focus: Distance) -> Operator:
        kernels = self.kernels(model, size, depth, focus)
        blur: Operator = (
            LowRankBlur(kernels, size, self.rank, self.border) if self.rank else PatchBlur(kernels, size, self.border)
        )
        return Chain(self._warp(model, size, depth, focus, BEYOND[self.border]), blur) if self.distortion else blur

    def kernels(self, model: PSFModel, size: tuple[int, int], depth: Distance, focus: Distance) -> Tensor:
        """The map [R, S, C, k, k]: of each patch of the sensor, the kernel of the ideal image point that is seen at its middle."""
        (columns, rows), extent = checked_grid(self.grid, size), self._extent(model, size)
        ideal = self._ideal(model, pixel_places((rows, columns)) * extent, depth, focus)
        ideal = ideal.clamp(-1, 1).to(model.device, torch.float32)
        points = model.field_points(ideal[..., 0], ideal[..., 1], depth, focus)
        kernels = model.psf(points.flatten(0, 1), pixel_um=self.pixel(model, size))
        return kernels.view(rows, columns, *kernels.shape[1:])

    def pixel(self, model: PSFModel, size: tuple[int, int]) -> float:
        """Side of a pixel on the sensor in um.

        Raises:
            ValueError: the picture is larger than the sensor.
        """
        width, height = model.optics.sensor_mm
        largest = 1e3 * min(width / size[1], height / size[0])
        if self.pixel_um is None:
            return largest
        if not 0 < self.pixel_um <= largest * (1 + 1e-6):
            raise ValueError(
                f"pixel_um: {size[1]} x {size[0]} pixels are on the sensor of {width:.4g} x {height:.4g} mm if they are at most "
                f"{largest:.4g} um, but got {self.pixel_um:g}"
            )
        return self.pixel_um

    def _extent(self, model: PSFModel, size: tuple[int, int]) -> Tensor:
        """Half the picture's width and height in halves of the sensor's."""
        sides = torch.tensor([size[1], size[0]], dtype=torch.float64) * self.pixel(model, size) * 1e-3
        return sides / torch.tensor(model.optics.sensor_mm, dtype=torch.float64)

    def _ideal(self, model: PSFModel, places: Tensor, depth: Distance, focus: Distance) -> Tensor:
        """Ideal image points [..., 2] of places [..., 2] of the sensor."""
        if model.optics.distortion is None and not self.distortion:
            return places  # the best that is known of where light is from
        distances = (float(one.detach()) if isinstance(one, Tensor) else one for one in (depth, focus))
        return torch.from_numpy(model.optics.ideal_points(places.numpy(), *distances))

    def _warp(self, model: PSFModel, size: tuple[int, int], depth: Distance, focus: Distance, beyond: Border) -> Warp:
        extent = self._extent(model, size)
        sources = self._ideal(model, pixel_places(size) * extent, depth, focus) / extent
        return Warp(sources.to(model.device), beyond)


def checked_grid(grid: tuple[int, int], size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(columns, rows) of a map of kernels.

    Raises:
        ValueError: not two whole numbers from one on, or more patches than a picture of `size` (H, W) has pixels.
    """
    if (
        not isinstance(grid, (tuple, list))
        or len(grid) != 2
        or not all(isinstance(one, int) and one >= 1 for one in grid)
    ):
        raise ValueError(f"grid: (columns, rows), whole numbers from 1 on, but got {grid!r}")
    columns, rows = grid
    if size is not None and (columns > size[1] or rows > size[0]):
        raise ValueError(
            f"grid: {columns} x {rows} patches are more than a picture of {size[1]} x {size[0]} pixels has; give a smaller `grid`"
        )
    return columns, rows


BEYOND: dict[Border, Border] = {"reflect": "replicate", "replicate": "replicate", "zero": "zero"}
"""Of a picture that is to be distorted: a mirror image is nothing that a lens would see."""


def restored(
    model: PSFModel,
    seen: Tensor,
    depth: Distance,
    focus: Distance,
    method: Method,
    iterations: int,
    noise: float,
    how: Rendering,
) -> Tensor:
    """A sharp picture [B, C, H, W] of what the lens took; see `PSFModel.restore`."""
    size = seen.shape[-2], seen.shape[-1]
    if method == "richardson_lucy":
        return richardson_lucy(how.operator(model, size, depth, focus), seen, iterations)
    if method != "wiener":
        raise ValueError(f"a method is richardson_lucy or wiener, but got {method!r}")
    if isinstance(depth, Tensor) and depth.ndim:
        raise ValueError("method wiener takes one depth; richardson_lucy takes a map")
    return wiener(how.kernels(model, size, depth, focus).to(seen), seen, noise, how.border)
