"""Kernels of field points: from traced or interpolated rays to pooled kernels.

A centred lens looks the same from every azimuth, so each distinct field radius is traced once and its rays are turned to
all points of that radius. Any other lens, or a bundle that its pupil map does not describe, has each of its rays traced.

N = field point, C = channel, T = traced pixel, K = model pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.kernels import Kernels, Tracing
from deeplens_workers.pooling import area_weights
from deeplens_workers.pupil_map import GRID, STEP, PupilMaps, trace_maps
from deeplens_workers.raytrace import RAY_BLOCK, RayTracer, one_thread
from deeplens_workers.sampling import PupilSamples, scramble
from deeplens_workers.splat import MOMENTS, splat_hits, splat_map

Array = NDArray[np.float64]

# The fewest rays with which noise is estimated.
FIRST_RAYS = 256

# called with (points [S, 2] of the pupil, kernel, moments): adds the rays through them
AddRays = Callable[[Array, Array, Array], None]


@dataclass
class _Bundles:
    """What is known of the field points of one block: chief rays and, for a centred lens, maps.

    `index` [N] is each point's row; rows are field radii of a centred lens, points of another.
    """

    objects: Array
    index: NDArray[np.int64]
    turns: Array
    """[N, 2] cosine and sine of each point's azimuth."""
    chief: Array
    """[rows, 1 + W, 2] sensor positions in mm of the chief rays: primary wavelength first, NaN where vignetted."""
    maps: PupilMaps | None
    """[rows * W] bundles."""


class KernelRenderer:
    """Renders kernels of one lens in this process.

    Args:
        tracer: the lens.
        symmetry: use the lens' symmetry and pupil maps where they hold; False traces every ray.
    """

    def __init__(self, tracer: RayTracer, symmetry: bool = True) -> None:
        self.tracer = tracer
        self._maps = symmetry and tracer.symmetric
        self.rays_traced = 0
        """Rays that DeepLens traced since the start, chief rays apart."""

    def render(self, points: NDArray[np.floating], tracing: Tracing) -> Kernels:
        """Kernels of field points; each point's bits depend on nothing but that point and `tracing`.

        Args:
            points: [N, 3] x and y normalised to half the sensor's width and height; depth in mm, negative.

        Raises:
            ValueError: no light of a point reaches its kernel's window.
        """
        field = np.asarray(points.astype(np.float64))
        with torch.inference_mode(), one_thread():
            bundles = self._trace(field, tracing)
            weights = area_weights(tracing.trace_px, tracing.kernel_px)
            rendered = [self._point(i, point, bundles, tracing, weights) for i, point in enumerate(field)]
        kernels, rms, lost, rays = (np.stack(part) for part in zip(*rendered, strict=True))
        offset, lateral = self._offsets(bundles, tracing)
        return Kernels(
            kernels=kernels.astype(np.float32),
            chief_ray_offset_px=offset.astype(np.float32),
            lateral_color_px=lateral.astype(np.float32),
            rms_radius_px=rms.astype(np.float32),
            lost=lost.astype(np.float32),
            rays=rays.astype(np.int32),
        )

    def _canonical(self, objects: Array) -> tuple[Array, Array]:
        """Objects [N, 3] turned onto the +x axis of a centred lens, and the turns [N, 2] that bring them back."""
        if not self._maps:
            return objects, np.tile([1.0, 0.0], (len(objects), 1))
        # In float32, so that a grid's points of one radius fall together.
        radius = np.hypot(objects[:, 0], objects[:, 1]).astype(np.float32).astype(np.float64)
        turns = np.divide(
            objects[:, :2], radius[:, None], out=np.tile([1.0, 0.0], (len(objects), 1)), where=radius[:, None] > 0
        )
        return np.stack([radius, np.zeros_like(radius), objects[:, 2]], axis=1), turns

    def _trace(self, points: Array, tracing: Tracing) -> _Bundles:
        canonical, turns = self._canonical(self.tracer.object_points(points))
        objects, index = np.unique(canonical, axis=0, return_inverse=True)
        waves = np.array(tracing.wavelengths)
        maps: PupilMaps | None = None
        near: Array | None = None
        if self._maps and tracing.model == "geometric":
            maps = trace_maps(self.tracer, np.repeat(objects, len(waves), axis=0), np.tile(waves, len(objects)))
            self.rays_traced += len(GRID) * len(maps.usable)
            crossings = np.stack([maps.stop_crossing, np.zeros(len(maps.usable))], axis=1).reshape(len(objects), -1, 2)
            near = np.concatenate([crossings[:, :1], crossings], axis=1).reshape(-1, 2)
        every = np.concatenate([[self.tracer.primary_um], waves])
        rows, lights = np.repeat(objects, len(every), axis=0), np.tile(every, len(objects))
        chief = self.tracer.chief_rays(rows, lights, near)
        if near is not None and (lost := np.isnan(chief).any(axis=1)).any():
            chief[lost] = self.tracer.chief_rays(rows[lost], lights[lost])
        return _Bundles(objects, index.reshape(-1), turns, chief.reshape(len(objects), -1, 2), maps)

    def _point(
        self, i: int, point: Array, bundles: _Bundles, tracing: Tracing, weights: Array
    ) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        """One point: pooled kernel [C, K, K], RMS radius [C] in pixels, lost share [C], rays [C]."""
        if tracing.model != "geometric":
            return self._wave_point(point, tracing, weights)
        samples = PupilSamples(tracing.seed, point)
        pooled, sums, rays = [], [], []
        for channel in tracing.channels:
            total, moments, count = np.zeros(2 * [tracing.kernel_px]), np.zeros(MOMENTS), 0
            for wavelength, weight in channel:
                add = self._adder(i, bundles, wavelength, tracing)
                kernel, sampled, tried = _integrate(add, samples, tracing, weights)
                total += kernel * (weight / tried)
                moments += sampled * (weight / tried)
                count += tried
            pooled.append(total)
            sums.append(moments)
            rays.append(count)
        reached, x, y, square, inside = np.stack(sums, axis=1)
        if not all(kernel.any() for kernel in pooled):
            raise ValueError(f"no light of field point {point.tolist()} (x, y, depth in mm) reaches its kernel")
        kernels = np.stack(pooled)
        rms = np.sqrt(np.maximum(square / reached - (x / reached) ** 2 - (y / reached) ** 2, 0.0))
        return kernels / kernels.sum((1, 2), keepdims=True), rms, 1.0 - inside / reached, np.array(rays)

    def _adder(self, i: int, bundles: _Bundles, wavelength: float, tracing: Tracing) -> AddRays:
        """What adds rays of one point and wavelength to a kernel."""
        row, (cos, sin) = bundles.index[i], bundles.turns[i]
        center = self._center(bundles, row, tracing.recenter) / self.tracer.pixel_mm
        turn = np.array([[cos, -sin], [sin, cos]])
        bundle = row * len(tracing.wavelengths) + tracing.wavelengths.index(wavelength)
        maps = bundles.maps
        if maps is not None and maps.usable[bundle]:
            fixed = (maps.hits[bundle], maps.heights[bundle], maps.flags[bundle], STEP, turn, -(turn @ center))
            return lambda pupil, kernel, moments: splat_map(*fixed, pupil, kernel, moments)

        def traced(pupil: Array, kernel: Array, moments: Array) -> None:
            for block in np.split(pupil, range(RAY_BLOCK, len(pupil), RAY_BLOCK)):
                hits, valid = self.tracer.hits(bundles.objects[row][None], block[None], np.array([wavelength]))
                self.rays_traced += len(block)
                splat_hits((hits[0] / self.tracer.pixel_mm - center) @ turn.T, valid[0], kernel, moments)

        return traced

    def _center(self, bundles: _Bundles, row: int, recenter: bool) -> Array:
        """Kernel centre [2] in mm of a row's points, before their turn.

        As in DeepLens, a chief ray that is vignetted is replaced by the pinhole image.
        """
        chief: Array = bundles.chief[row, 0]
        if recenter and not np.isnan(chief).any():
            return chief
        return np.asarray(self.tracer.pinhole_images(bundles.objects[row : row + 1])[0])

    def _offsets(self, bundles: _Bundles, tracing: Tracing) -> tuple[Array, Array]:
        """Chief rays in pixels: the primary wavelength's from the pinhole image, [N, 2], each channel's from it, [N, C, 2]."""
        pinhole = self.tracer.pinhole_images(bundles.objects)
        primary = np.where(np.isnan(bundles.chief[:, 0]), pinhole, bundles.chief[:, 0])
        lateral = np.nan_to_num(bundles.chief[:, 1:] - primary[:, None])
        shares = np.array(
            [[dict(channel).get(wave, 0.0) for wave in tracing.wavelengths] for channel in tracing.channels]
        )
        shares /= shares.sum(axis=1, keepdims=True)
        lateral = np.einsum("cw,nwa->nca", shares, lateral)
        cos, sin = bundles.turns.T
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], axis=1)
        offset = np.einsum("nab,nb->na", turn, (primary - pinhole)[bundles.index])
        return offset / self.tracer.pixel_mm, np.einsum(
            "nab,ncb->nca", turn, lateral[bundles.index]
        ) / self.tracer.pixel_mm

    def _wave_point(
        self, point: Array, tracing: Tracing, weights: Array
    ) -> tuple[Array, Array, Array, NDArray[np.int64]]:
        """One point of a wave-optical model, which DeepLens computes by itself; it tells neither radius nor loss."""
        kernels = np.zeros((len(tracing.channels), tracing.kernel_px, tracing.kernel_px))
        counts = np.zeros(len(tracing.channels), dtype=np.int64)
        for kernel, (c, channel) in zip(kernels, enumerate(tracing.channels), strict=True):
            for wavelength, weight in channel:
                seed = int(scramble(tracing.seed, *point, wavelength)[0])
                options = (tracing.trace_px, tracing.rays, tracing.model, tracing.recenter, seed)
                kernel += weight * (weights @ self.tracer.wave_psf(point, wavelength, *options) @ weights.T)
                counts[c] += tracing.rays
        self.rays_traced += int(counts.sum())
        unknown = np.full(len(kernels), np.nan)
        return kernels / kernels.sum((1, 2), keepdims=True), unknown, unknown, counts


def _integrate(add: AddRays, samples: PupilSamples, tracing: Tracing, weights: Array) -> tuple[Array, Array, int]:
    """Pooled kernel [K, K] and moments, summed over rays, and how many rays.

    For a given noise, two samples of their own are doubled until half their difference, relative to their sum, is below it:
    the standard error of their mean.
    """
    traced, moments = np.zeros((2, tracing.trace_px, tracing.trace_px)), np.zeros(MOMENTS)
    if tracing.noise is None:
        add(samples(0, 0, tracing.rays), traced[0], moments)
        return _pooled(traced[0], weights), moments, tracing.rays
    first, last = 0, FIRST_RAYS // 2
    while True:
        for half in range(2):
            add(samples(1 + half, first, last), traced[half], moments)
        one, other = (_pooled(kernel, weights) for kernel in traced)
        if 4 * last > tracing.rays or np.linalg.norm(one - other) <= tracing.noise * np.linalg.norm(one + other):
            return one + other, moments, 2 * last
        first, last = last, 2 * last


def _pooled(kernel: Array, weights: Array) -> Array:
    return np.asarray(weights @ kernel @ weights.T)


def load(lens_path: Any, pixel_pitch_um: float, focus_mm: float | None = None) -> KernelRenderer:
    """The renderer of a lens file; see `RayTracer` for arguments and errors."""
    return KernelRenderer(RayTracer(lens_path, pixel_pitch_um, focus_mm))
