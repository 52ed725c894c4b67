"""Kernels of field points: from traced or interpolated rays to pooled kernels.

A centred lens looks the same from every azimuth, so each distinct field radius is traced once and its rays are turned to
all points of that radius. Any other lens, or a bundle that its pupil map does not describe, has each of its rays traced.

N = field point, C = channel, T = traced pixel, K = model pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.kernels import Kernels, Tracing, Units, middle_channel
from deeplens_workers.lens_file import LensFile
from deeplens_workers.pooling import BOX_RAMP, area_weights, smooth_weights
from deeplens_workers.pupil import find_pupils
from deeplens_workers.pupil_map import HALF, WHOLE, PupilMaps, trace_maps
from deeplens_workers.raytrace import RAY_BLOCK, Pupils, RayTracer
from deeplens_workers.sampling import PupilSamples, scramble
from deeplens_workers.splat import MOMENTS, splat_hits, splat_map
from deeplens_workers.threads import one_thread
from deeplens_workers.tolerances import Tolerances
from deeplens_workers.units import Manufacture

Array = NDArray[np.float64]

NO_LIGHT = "no light of field point {} (x, y, depth in mm) reaches its kernel{}"
# The fewest rays with which noise is estimated.
FIRST_RAYS = 256
# That find a centroid: to 0.01 of a triplet's pixels, as far as rays that make the kernel are concerned.
CENTROID_RAYS = 1024
BLOCK = 256  # points whose maps are in memory at once: some 10 MB for each wavelength

# called with (points [S, 2] of the unit disc, kernel, moments): adds the rays through them
AddRays = Callable[[NDArray[np.float32], Array, Array], None]


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
    pupils: Pupils
    """[rows * W] bundles."""
    relative_illumination: Array
    """[rows, W], to that of the axis."""
    maps: PupilMaps | None
    """[rows * W] bundles."""
    ready: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    """Maps of the row at hand, refined."""

    def turn(self, i: int) -> Array:
        """Rotation [2, 2] by a point's azimuth."""
        cos, sin = self.turns[i]
        return np.array([[cos, -sin], [sin, cos]])


class KernelRenderer:
    """Renders kernels of one lens, and of its units, in this process.

    Args:
        tracer: the lens.
        lens: its file, of which units are made.
        maps: use the lens' symmetry and pupil maps where they hold; False traces every ray.
    """

    def __init__(self, tracer: RayTracer, lens: LensFile | None = None, maps: bool = True) -> None:
        self.tracer, self._lens = tracer, lens
        self._maps = maps and tracer.mappable
        self.rays_traced = 0
        """Rays that DeepLens traced since the start, chief rays and the search of pupils apart."""

    @property
    def _symmetric(self) -> bool:
        return self._maps and self.tracer.symmetric

    def render(self, points: NDArray[np.floating], tracing: Tracing) -> Kernels:
        """Kernels of field points; each point's bits depend on nothing but that point and `tracing`.

        Args:
            points: [N, 3 or 4] x and y normalised to half the sensor's width and height; depth in mm, negative; distance
                that the lens is focused at in mm, negative, if not as in its file.

        Raises:
            ValueError: no light of a point reaches its kernel's window, DeepLens cannot focus so, or kernels that are to be
                turned are of a lens that is not centred.
        """
        self.tracer.build(None)
        return self._render(points, tracing)

    def _render(self, points: NDArray[np.floating], tracing: Tracing) -> Kernels:
        """Of the lens that the tracer has: the design, or a unit."""
        if tracing.pooling == "smooth" and not self.tracer.symmetric:
            raise ValueError("this lens is not centred, so its kernels cannot be turned (data.frame: meridional)")
        if tracing.pixel_filter == "triangle" and tracing.model != "geometric":
            raise ValueError(f"pixel_filter triangle shares rays, but model {tracing.model} has waves: use box")
        places = np.asarray(points[:, :3].astype(np.float64))
        rendered = Kernels.empty(len(points), len(tracing.channels), tracing.kernel_px)
        for focus_mm, chosen in _by_focus(points):
            self.tracer.focus(focus_mm)
            radius = self._canonical(self.tracer.object_points(places[chosen]))[0][:, 0]
            # Points of one radius follow each other: they share maps, which then stay in the processor's cache.
            order = chosen[np.lexsort((radius, places[chosen, 2]))]
            for block in np.split(order, range(BLOCK, len(order), BLOCK)):
                rendered.put(block, self._block(places[block], tracing))
        return rendered

    def render_units(self, points: NDArray[np.floating], tracing: Tracing, units: Units) -> Kernels:
        """Kernels of field points of units, as many of each, one unit after the other; see `render`.

        Raises:
            ValueError: also, no light reaches a unit's sensor, or the lens is not one that units are made of.
        """
        made = self.manufacture(units.tolerances)
        rendered = Kernels.empty(len(points), len(tracing.channels), tracing.kernel_px)
        for values, indices in zip(units.values, np.split(np.arange(len(points)), len(units.values)), strict=True):
            self.tracer.build(made.unit(values), units.focus_mm)
            rendered.put(indices, self._render(points[indices], tracing))
        return rendered

    def manufacture(self, tolerances: Tolerances) -> Manufacture:
        """What makes units of the lens.

        Raises:
            ValueError: see `Manufacture`.
        """
        assert self._lens is not None
        return Manufacture(self._lens, tolerances)

    def _block(self, places: Array, tracing: Tracing) -> Kernels:
        rendered = Kernels.empty(len(places), len(tracing.channels), tracing.kernel_px)
        with torch.inference_mode(), one_thread():
            bundles = self._trace(places, tracing)
            weights = _weights(tracing)
            one = self._point if tracing.model == "geometric" else self._wave_point
            for i in range(len(places)):
                one(rendered, i, places[i], bundles, tracing, weights)
        self._offsets(rendered, bundles, tracing)
        return rendered

    def _canonical(self, objects: Array) -> tuple[Array, Array]:
        """Objects [N, 3] turned onto the +x axis of a centred lens, and the turns [N, 2] that bring them back."""
        if not self._symmetric:
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
        depths, depth = np.unique(objects[:, 2], return_inverse=True)
        axis = np.stack([np.zeros_like(depths), np.zeros_like(depths), depths], axis=1)
        places, count = np.concatenate([objects, axis]), len(objects)
        found = find_pupils(self.tracer, *_each(places, waves), symmetric=self._symmetric)
        pupils = found.take(slice(count * len(waves)))
        maps: PupilMaps | None = None
        near: Array | None = None
        if self._maps and tracing.model == "geometric":
            # Of a centred lens the axis' chief ray is known.
            grid, mapped = (HALF, count) if self._symmetric else (WHOLE, len(places))
            maps = trace_maps(self.tracer, *_each(places[:mapped], waves), found.take(slice(mapped * len(waves))), grid)
            self.rays_traced += len(grid.places) * len(maps.usable)
            near = np.zeros((len(places), len(waves), *maps.stop_crossing.shape[1:]))
            near[:mapped] = maps.stop_crossing.reshape(mapped, *near.shape[1:])
        lights = np.concatenate([[self.tracer.primary_um], waves])
        first = [0, *range(len(waves))]  # the primary wavelength's pupil is near enough that of the first
        ellipses = pupils.take(np.arange(count * len(waves)).reshape(count, -1)[:, first].reshape(-1))
        aims = None if near is None else near[:count, first].reshape(-1, *near.shape[2:])
        chief = self._chief_rays(*_each(objects, lights), ellipses, aims).reshape(count, -1, 2)
        aims = None if near is None else near[:, 0]
        magnified = self._area_magnification(places, found.take(slice(None, None, len(waves))), aims)
        illuminance = found.light.reshape(len(places), -1) / magnified[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = illuminance[:count] / illuminance[count + depth.reshape(-1)]
        return _Bundles(objects, index.reshape(-1), turns, chief, pupils, relative, maps)

    def _chief_rays(self, objects: Array, lights: Array, pupils: Pupils, near: Array | None) -> Array:
        chief = self.tracer.chief_rays(objects, lights, pupils, near)
        if near is not None and (lost := np.isnan(chief).any(axis=1)).any():
            chief[lost] = self.tracer.chief_rays(objects[lost], lights[lost], pupils.take(lost))
        return chief

    def _area_magnification(self, objects: Array, pupils: Pupils, near: Array | None) -> Array:
        """Area [M] of the image of an area around each object [M, 3], by chief rays; the pinhole's where they are vignetted.

        Args:
            near: see `RayTracer.chief_rays`.
        """
        step = 1e-3 * float(np.hypot(*self.tracer.half_sensor)) * -objects[:, 2] / self.tracer.foclen
        moves = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])[: 2 if self._symmetric else 3]
        places = (objects[:, None] + step[:, None, None] * moves).reshape(-1, 3)
        row = np.repeat(np.arange(len(objects)), len(moves))
        primary = np.full(len(places), self.tracer.primary_um)
        chief = self._chief_rays(places, primary, pupils.take(row), None if near is None else near[row])
        chief = chief.reshape(len(objects), len(moves), 2)
        outwards = (chief[:, 1] - chief[:, 0]) / step[:, None]
        if not self._symmetric:
            upwards = (chief[:, 2] - chief[:, 0]) / step[:, None]
            area = outwards[:, 0] * upwards[:, 1] - outwards[:, 1] * upwards[:, 0]
        else:
            height = objects[:, 0]
            turning = np.divide(chief[:, 0, 0], height, out=outwards[:, 0].copy(), where=height > step)
            area = outwards[:, 0] * turning
        return np.where(np.isnan(area), np.square(self.tracer.foclen / objects[:, 2]), np.abs(area))

    def _point(
        self, out: Kernels, i: int, point: Array, bundles: _Bundles, tracing: Tracing, weights: Array | None
    ) -> None:
        samples = PupilSamples(tracing.seed, point)
        centre = self._centre(i, bundles, tracing, samples)
        for c, channel in enumerate(tracing.channels):
            total, moments, count = None, np.zeros(MOMENTS), 0
            for wavelength, weight in channel:
                add, area = self._adder(i, bundles, wavelength, tracing, centre)
                kernel, sampled, tried = _integrate(add, samples, tracing, weights)
                kernel *= weight * area / tried
                total = kernel if total is None else total + kernel
                moments += sampled * (weight * area / tried)
                count += tried
            assert total is not None
            if not (energy := total.sum()):
                raise ValueError(self._no_light(point))
            np.divide(total, energy, out=out.kernels[i, c], casting="same_kind")
            reached, x, y, square, inside = moments.tolist()
            variance = square / reached - (x / reached) ** 2 - (y / reached) ** 2
            out.rms_radius_px[i, c] = math.sqrt(max(variance, 0.0))
            out.lost[i, c] = 1.0 - inside / reached
            out.rays[i, c] = count

    def _no_light(self, point: Array) -> str:
        focus_mm = self.tracer.focus_mm
        return NO_LIGHT.format(point.tolist(), "" if focus_mm is None else f", focused at {focus_mm:g} mm")

    def _adder(
        self, i: int, bundles: _Bundles, wavelength: float, tracing: Tracing, centre: Array
    ) -> tuple[AddRays, float]:
        """What adds rays of one point and wavelength to a kernel, and the area of the pupil's plane they stand for.

        Args:
            centre: of the kernel [2], in sensor pixels, before the point's turn.
        """
        row, turn = bundles.index[i], bundles.turn(i)
        bundle = row * len(tracing.wavelengths) + tracing.wavelengths.index(wavelength)
        pupil = bundles.pupils.take(slice(bundle, bundle + 1))
        area = float(pupil.radii.prod())
        side, ramp = _grid(tracing)
        shared = side / tracing.trace_px, ramp
        maps = bundles.maps
        if maps is not None and maps.usable[bundle]:
            if bundle not in bundles.ready:
                bundles.ready = {k: v for k, v in bundles.ready.items() if k // len(tracing.wavelengths) == row}
                bundles.ready[bundle] = maps.arguments(bundle)
            fixed = (*bundles.ready[bundle], turn, -(turn @ centre))
            return lambda disc, kernel, moments: splat_map(*fixed, *shared, disc, kernel, moments), area

        def traced(disc: NDArray[np.float32], kernel: Array, moments: Array) -> None:
            for block in np.split(disc, range(RAY_BLOCK, len(disc), RAY_BLOCK)):
                hits, valid = self.tracer.hits(bundles.objects[row][None], pupil.place(block), np.array([wavelength]))
                self.rays_traced += len(block)
                splat_hits((hits[0] / self.tracer.pixel_mm - centre) @ turn.T, valid[0], *shared, kernel, moments)

        return traced, area

    def _centre(self, i: int, bundles: _Bundles, tracing: Tracing, samples: PupilSamples) -> Array:
        """Centre [2] of a point's kernel in sensor pixels, before the point's turn.

        As in DeepLens, a chief ray that is vignetted is replaced by the pinhole image.
        """
        row = bundles.index[i]
        chief: Array = bundles.chief[row, 0]
        if tracing.centre == "pinhole" or np.isnan(chief).any():
            chief = np.asarray(self.tracer.pinhole_images(bundles.objects[row : row + 1])[0])
        centre = chief / self.tracer.pixel_mm
        if tracing.centre != "centroid":
            return centre
        light = np.zeros(MOMENTS)
        for wavelength, weight in tracing.channels[middle_channel(len(tracing.channels))]:
            add, area = self._adder(i, bundles, wavelength, tracing, centre)
            moments = np.zeros(MOMENTS)
            add(samples(0, 0, CENTROID_RAYS), np.zeros((1, 1), np.float32), moments)
            light += weight * area * moments
        reached, x, y, *_ = light
        # Where there is no light, that is found when the kernel is made.
        return centre + bundles.turn(i).T @ (np.array([x, y]) / reached if reached else np.zeros(2))

    def _offsets(self, out: Kernels, bundles: _Bundles, tracing: Tracing) -> None:
        """Chief rays in pixels: the primary wavelength's from the pinhole image, each channel's from that."""
        pinhole = self.tracer.pinhole_images(bundles.objects)
        primary = self.tracer.or_pinhole(bundles.chief[:, 0], bundles.objects)
        lateral = bundles.chief[:, 1:] - bundles.chief[:, :1]  # NaN where either is vignetted
        shares = np.array(
            [[dict(channel).get(wave, 0.0) for wave in tracing.wavelengths] for channel in tracing.channels]
        )
        shares /= shares.sum(axis=1, keepdims=True)
        # Sums wave by wave: a library's sums over points may round differently with how many there are.
        light = sum(shares[:, w] * bundles.relative_illumination[:, w : w + 1] for w in range(shares.shape[1]))
        out.relative_illumination[:] = np.asarray(light)[bundles.index]
        unknown = np.einsum("cw,nw->nc", shares, np.isnan(lateral[..., 0])) > 0
        known = np.nan_to_num(lateral)
        lateral = np.asarray(sum(shares[:, w, None] * known[:, w : w + 1] for w in range(shares.shape[1])))
        lateral[unknown] = np.nan
        cos, sin = bundles.turns.T
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], axis=1) / self.tracer.pixel_mm
        out.chief_ray_offset_px[:] = np.einsum("nab,nb->na", turn, (primary - pinhole)[bundles.index])
        out.lateral_color_px[:] = np.einsum("nab,ncb->nca", turn, lateral[bundles.index])

    def _wave_point(
        self, out: Kernels, i: int, point: Array, bundles: _Bundles, tracing: Tracing, weights: Array | None
    ) -> None:
        """One point of a wave-optical model, which DeepLens computes by itself; it tells neither radius nor loss."""
        row, waves = bundles.index[i], len(tracing.wavelengths)
        options = (tracing.trace_px, tracing.rays, tracing.model, tracing.centre == "chief ray")
        for c, channel in enumerate(tracing.channels):
            total = np.zeros(2 * [tracing.trace_px])
            for wavelength, weight in channel:
                seed = int(scramble(tracing.seed, *point, wavelength)[0])
                bundle = row * waves + tracing.wavelengths.index(wavelength)
                pupil = bundles.pupils.take(slice(bundle, bundle + 1))
                total += weight * self.tracer.wave_psf(point, wavelength, pupil, *options, seed)
            pooled = _pooled(total, weights)
            if not pooled.sum() > 0:
                raise ValueError(self._no_light(point))
            out.kernels[i, c] = pooled / pooled.sum()
            out.rays[i, c] = len(channel) * tracing.rays
        out.rms_radius_px[i] = out.lost[i] = np.nan
        self.rays_traced += int(out.rays[i].sum())


def _each(objects: Array, waves: Array) -> tuple[Array, Array]:
    """Objects [rows * W, 3] and wavelengths [rows * W] of all pairs."""
    return np.repeat(objects, len(waves), axis=0), np.tile(waves, len(objects))


def _by_focus(points: NDArray[np.floating]) -> Iterator[tuple[float | None, NDArray[np.int64]]]:
    """Focus distances in mm, None as in the file, and the indices of their points."""
    if points.shape[1] == 3:
        yield None, np.arange(len(points))
        return
    for focus_mm in np.unique(points[:, 3]):
        yield float(focus_mm), np.flatnonzero(points[:, 3] == focus_mm)


def _integrate(
    add: AddRays, samples: PupilSamples, tracing: Tracing, weights: Array | None
) -> tuple[Array, Array, int]:
    """Pooled kernel [K, K] and moments, summed over rays, and how many rays.

    For a given noise, two samples of their own are doubled until half their difference, relative to their sum, is below it:
    the standard error of their mean.
    """
    side, _ = _grid(tracing)
    traced = np.zeros((2, side, side), np.float32)
    moments = np.zeros(MOMENTS)
    if tracing.noise is None:
        add(samples(0, 0, tracing.rays), traced[0], moments)
        return _pooled(traced[0], weights), moments, tracing.rays
    first, last = 0, FIRST_RAYS // 2
    while True:
        for half in range(2):
            add(samples(1 + half, first, last), traced[half], moments)
        one, other = (_pooled(kernel, weights) for kernel in traced)
        seen = np.linalg.norm(one + other)
        if 4 * last > tracing.rays or (seen > 0 and np.linalg.norm(one - other) <= tracing.noise * seen):
            return one + other, moments, 2 * last
        first, last = last, 2 * last


def _grid(tracing: Tracing) -> tuple[int, float]:
    """Pixels along a side that rays are put on, and the ramp of their edges (`deeplens_workers.splat`)."""
    pooled = tracing.pixel_filter == "box" and tracing.trace_px > tracing.kernel_px
    if tracing.pooling == "smooth" or pooled:
        return tracing.trace_px, 1.0
    return tracing.kernel_px, BOX_RAMP if tracing.pixel_filter == "box" else 1.0


def _weights(tracing: Tracing) -> Array | None:
    """What makes kernels of traced ones; None: these are kernels."""
    if tracing.pooling == "smooth":
        return smooth_weights(tracing.kernel_px)  # of as many traced ones
    traced, _ = _grid(tracing)
    return None if traced == tracing.kernel_px else area_weights(traced, tracing.kernel_px)


def _pooled(kernel: NDArray[Any], weights: Array | None) -> NDArray[Any]:
    return kernel if weights is None else np.asarray(weights @ kernel @ weights.T)


def load(lens: LensFile, pixel_pitch_um: float) -> KernelRenderer:
    """The renderer of a lens; see `RayTracer` for arguments and errors."""
    return KernelRenderer(RayTracer(lens, pixel_pitch_um), lens)
