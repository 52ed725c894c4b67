"""Rays through a lens, traced by DeepLens.

Surfaces, materials, tracing and the sensor are DeepLens'. This module chooses where rays start and returns where they land,
and it finds chief rays by Newton's method instead of searching random samples.

M = bundle (one object point, one wavelength), S = ray of a bundle, A = aperture (any surface limits rays). Lengths in mm
unless named; sensor positions are upright, with the lens' inversion undone as in DeepLens' kernels.
"""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.geolens import GeoLens, Ray, assembled, is_centred, load_lenses, rays_through
from deeplens_workers.lens_file import LensFile
from deeplens_workers.threads import one_thread, seeded
from deeplens_workers.units import AsBuilt, rotation

Array = NDArray[np.float64]

# Rays traced at once: their 24 bytes each stay in a core's cache; twice as many are 20 % slower per ray.
RAY_BLOCK = 24576
# Bundles whose chief rays are found together, by a search of 64 rays each and from four rays nearby. Always exactly so many
# (padded), so that a bundle's bits never depend on its neighbours: torch's vector code and its scalar remainder may round
# differently.
SEARCH_BLOCK, NEAR_BLOCK = 64, 256
# Rays around a chief ray's place in the pupil, in steps of STENCIL_STEP radii: whole vectors, the last of them for nothing.
STENCIL_STEP = 0.02
ALONG = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
AROUND = np.array(
    [(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 0), (0, 0), (0, 0)], float
)
# DeepLens propagates far bundles to this plane first; starting there spares float32 the distance to the object.
START_Z = -10.0
# A pupil farther away than so many radii of the first surface is at infinity.
FAR_PUPIL = 1e3
# How far beyond its rim each surface is traced for `beyond_apertures`, in semi-apertures.
BEYOND = 1.6
# Field points, normalised, over whose spots a unit is focused for the whole field; the first for the axis.
FOCUSED = np.array([[0.0, 0.0], [0.7, 0.0], [-0.7, 0.0], [0.0, 0.7], [0.0, -0.7]])
# Points [64, 2] spread over the unit disc, among which the one nearest to a chief ray is found.
_GOLDEN = np.pi * (3 - np.sqrt(5)) * np.arange(64)
SPREAD = np.sqrt(np.arange(64) / 64)[:, None] * np.stack([np.cos(_GOLDEN), np.sin(_GOLDEN)], axis=-1)
# Points [1, 320, 2] of the unit disc on rings: a mirror or a quarter turn leaves them as they are, so that a centred lens is
# focused alike whichever way it is turned.
_RINGS, _SPOKES = np.sqrt((np.arange(10) + 0.5) / 10), (np.arange(32) + 0.5) * np.pi / 16
DISC = np.stack([np.outer(_RINGS, np.cos(_SPOKES)), np.outer(_RINGS, np.sin(_SPOKES))], axis=-1).reshape(1, -1, 2)


@dataclass(frozen=True)
class Pupils:
    """Parts of the entrance pupil's plane that hold all of the light of M bundles: ellipses.

    center, radii: [M, 2] in mm on the plane of `RayTracer.pupil`.
    light: [M] projected solid angle in sr, seen from the object point, that the light fills: the flux through the lens of
        each mm^2 of an object plane of radiance one.
    """

    center: Array
    radii: Array
    light: Array

    def place(self, disc: NDArray[np.floating]) -> Array:
        """Points [M, S, 2] in mm for points [S, 2] or [M, S, 2] of the unit disc."""
        return self.center[:, None] + self.radii[:, None] * disc

    def take(self, bundles: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Pupils:
        """Those of some bundles."""
        return Pupils(self.center[bundles], self.radii[bundles], self.light[bundles])


class Unstopped(NamedTuple):
    """Rays [M, S] traced as if no aperture stopped them; all is NaN for one that does not reach the sensor even so.

    hits: [M, S, 2] sensor positions in mm.
    heights: [M, A, S] float32, squared heights above each surface's own axis, 1 at its edge.
    stop: [M, S, 2] x and y from the stop's centre in mm.
    """

    hits: Array
    heights: NDArray[np.float32]
    stop: Array


class RayTracer:
    """A lens, loaded, with a sensor of a given pixel pitch.

    The sensor keeps its size from the file, so field points mean the same at every pitch; its resolution follows.

    Args:
        lens: a checked lens file.
        pixel_pitch_um: sensor pixel pitch in micrometres.

    Raises:
        ValueError: DeepLens cannot load the lens.
    """

    def __init__(self, lens: LensFile, pixel_pitch_um: float) -> None:
        try:
            self._scale, loaded = load_lenses(lens.text, lens.glasses)
        except Exception as error:  # whatever a lens that it cannot make sense of leads to
            raise ValueError(f"lens {lens.name}: DeepLens cannot load it: {type(error).__name__}: {error}") from error
        self._lens, self._exact, self._beyond = loaded
        self._name = lens.name
        self.focus_mm: float | None = None
        """Object distance that the lens is focused at; None: as in its file; NaN: unknown, after an error."""
        self._thickness = [_behind_last(lens).clone() for lens in (self._lens, self._exact, self._beyond)]
        self.pixel_mm = pixel_pitch_um * 1e-3
        self.primary_um = lens.conditions.primary_um
        self.foclen: float = self._lens.foclen
        self.half_sensor = np.array(lens.conditions.sensor_mm) / 2
        self._design = [lens.surfaces for lens in loaded]
        self._entrance: tuple[float, float] = self._exact.get_entrance_pupil(paraxial=True)
        self._unit: tuple[AsBuilt, float] | None = None
        self._tilt = np.eye(3)
        self.mappable = len(self._lens.surfaces) < 32
        """Pupil maps have a bit for each surface."""
        self.symmetric = self.mappable and all(map(is_centred, self._lens.surfaces))
        """The lens looks the same from every azimuth."""
        self._apertures = np.array([surface.r for surface in self._lens.surfaces])
        for surface in self._beyond.surfaces:
            surface.r *= BEYOND
        for one in (self._lens, self._exact):
            # Not set_sensor(): it demands equal aspect ratios to the last bit, and recomputes the field of view for nothing.
            one.sensor_res = tuple(round(float(2 * half) / self.pixel_mm) for half in self.half_sensor)
            one.pixel_size = self.pixel_mm

    def focus(self, focus_mm: float | None) -> None:
        """Move the sensor to where an object at that distance, negative, is sharp; None: to where the file has it.

        DeepLens finds it with random rays; seeded, they are the same in every process. A unit is focused by its compensator.

        Raises:
            ValueError: DeepLens cannot focus so.
        """
        if focus_mm == self.focus_mm:
            return
        self.focus_mm = math.nan
        if self._unit is not None:
            unit, as_built = self._unit
            self._focus_unit(unit, as_built if focus_mm is None else focus_mm)
            self.focus_mm = focus_mm
            return
        # DeepLens moves a sensor by adding to where it is: always from the file's place, so that no history is in the bits.
        for lens, thickness in zip((self._lens, self._exact, self._beyond), self._thickness, strict=True):
            _behind_last(lens).copy_(thickness)
        with one_thread(), seeded(0), redirect_stdout(io.StringIO()):
            if focus_mm is None:
                self._exact.post_computation()
            elif -focus_mm <= self._exact.foclen:
                raise ValueError(
                    f"lens {self._name}: cannot be focused at {focus_mm:g} mm, within its focal length, {self._exact.foclen:.1f} mm"
                )
            else:
                try:
                    self._exact.refocus(focus_mm)
                except Exception as error:
                    raise ValueError(
                        f"lens {self._name}: DeepLens cannot focus it at {focus_mm:g} mm: {type(error).__name__}: {error}"
                    ) from error
                # Tracing needs no more of the others; the wave-optical models, which do, use the exact one.
                for lens in (self._lens, self._beyond):
                    lens.d_sensor = self._exact.d_sensor.to(lens.dtype)
        self.focus_mm = focus_mm

    def build(self, unit: AsBuilt | None, focus_mm: float = math.inf) -> None:
        """Take the surfaces and the sensor of a unit in place of the design's; None: the design's again.

        Args:
            focus_mm: object distance, negative, that it is focused at if no other is asked for.

        Raises:
            ValueError: no light reaches its sensor.
        """
        if unit is None and self._unit is None:
            return
        self.focus_mm = math.nan
        lenses = zip((self._lens, self._exact, self._beyond), self._design, strict=True)
        if unit is None:
            self._unit, self._tilt = None, np.eye(3)
            for lens, design in lenses:
                lens.surfaces = design
        else:
            self._unit, self._tilt = (unit, focus_mm), rotation(*unit.tilt)
            for lens, design in lenses:
                lens.surfaces = assembled(design, unit, lens.dtype)
        self.symmetric = self.mappable and not self._tilted and all(map(is_centred, self._lens.surfaces))
        self.focus(None)

    def _focus_unit(self, unit: AsBuilt, focus_mm: float) -> None:
        with torch.inference_mode(), one_thread():
            before = unit.surfaces[-1]["d_next"]
            _behind_last(self._exact).fill_(before)
            behind = before + unit.focus_mm + self._compensation(unit.compensator, focus_mm)
        for lens in (self._lens, self._exact, self._beyond):
            _behind_last(lens).fill_(behind)

    def _compensation(self, compensator: str, focus_mm: float) -> float:
        """By how much to move the sensor, for the least mean square of the spots' RMS radii, primary wavelength."""
        if compensator == "none":
            return 0.0
        fields = FOCUSED[:1] if compensator == "axis" else FOCUSED
        objects = self.object_points(np.column_stack([fields, np.full(len(fields), focus_mm)]))
        _, radius = self.pupil(objects)
        lens = self._exact
        waves = np.full(len(objects), self.primary_um)
        ray, _ = lens.trace(self._rays(lens, objects, radius[:, None, None] * DISC, waves))
        ray = ray.prop_to(lens.d_sensor)
        passed = (ray.is_valid > 0).numpy()
        total = offsets = 0.0
        for spot, direction, through in zip(ray.o.numpy(), ray.d.numpy(), passed, strict=True):
            if through.sum() > 1:
                slope = direction[through, :2] / direction[through, 2:]
                slope, place = slope - slope.mean(0), spot[through, :2] - spot[through, :2].mean(0)
                total += (slope * slope).sum() / through.sum()
                offsets += (slope * place).sum() / through.sum()
        if not total:
            raise ValueError(f"lens {self._name}: no light reaches the sensor of a unit")
        return -float(offsets / total)

    def object_points(self, points: NDArray[np.floating]) -> Array:
        """Positions [N, 3] of field points in object space, by pinhole projection as in DeepLens.

        Args:
            points: [N, 3] x and y normalised to half the sensor's width and height; depth in mm, negative.
        """
        points = np.asarray(points, dtype=np.float64)
        scale = -points[:, 2:] / self._lens.foclen
        return np.concatenate([points[:, :2] * scale * self.half_sensor, points[:, 2:]], axis=1)

    def pinhole_images(self, objects: Array) -> Array:
        """Sensor positions [M, 2] by pinhole projection: without distortion."""
        return np.asarray(-objects[:, :2] / objects[:, 2:] * self._lens.foclen)

    def pupil(self, objects: Array) -> tuple[Array, Array]:
        """z [M] of the plane that rays of objects [M, 3] are aimed at, and the radius [M] of the pupil there, in mm.

        The paraxial entrance pupil; where that is at infinity or not in front of the light, the first surface.
        """
        z, radius = self._entrance
        first = self._exact.surfaces[0].r
        ahead = objects[:, 2] < min(0.0, z - radius) if abs(z) < FAR_PUPIL * first else np.zeros(len(objects), bool)
        return np.where(ahead, z, 0.0), np.where(ahead, radius, first)

    def or_pinhole(self, chief: Array, objects: Array) -> Array:
        """Chief rays' sensor positions [M, 2]; as in DeepLens, the pinhole image stands for one that is vignetted (NaN)."""
        return np.where(np.isnan(chief), self.pinhole_images(objects), chief)

    def hits(
        self, objects: Array, pupil: NDArray[np.floating], wavelengths_um: Array
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Where rays land: sensor positions [M, S, 2] and whether they reach it, [M, S].

        Args:
            objects: [M, 3].
            pupil: [M, S, 2] points of the pupil's plane in mm.
            wavelengths_um: [M].
        """
        ray, _ = self._lens.trace(self._rays(self._lens, objects, pupil, wavelengths_um))
        return self._landed(self._lens, ray), (ray.is_valid > 0).numpy()

    def beyond_apertures(self, objects: Array, pupil: Array, wavelengths_um: Array) -> Unstopped:
        """Where rays would go if no aperture stopped them, and how far each aperture is from doing so; arguments of `hits`."""
        lens = self._beyond
        ray, record = lens.trace(self._rays(lens, objects, pupil, wavelengths_um), record=True)
        pairs = enumerate(zip(lens.surfaces, record[1:], strict=True))
        heights = torch.stack([_squared_height(o, surface, lens.surf_d(i)) for i, (surface, o) in pairs], dim=1).numpy()
        heights /= np.square(self._apertures, dtype=np.float32)[:, None]
        heights[np.broadcast_to((ray.is_valid <= 0).numpy()[:, None], heights.shape)] = np.nan
        stop = lens.surfaces[lens.aper_idx]
        center = torch.stack([stop.pos_x, stop.pos_y])
        at_stop = (record[lens.aper_idx + 1][..., :2] - center).double().numpy()
        return Unstopped(self._landed(lens, ray), heights, at_stop)

    def _landed(self, lens: GeoLens, ray: Ray) -> Array:
        """Upright sensor positions [..., 2] of rays that have passed the last surface; on a tilted sensor, along it."""
        ray = ray.prop_to(lens.d_sensor)
        if self._tilted:
            return -self._met(ray) @ self._tilt[:, :2]
        return np.asarray(-ray.o[..., :2].double().numpy())

    @property
    def _tilted(self) -> bool:
        return not np.array_equal(self._tilt, np.eye(3))

    def _met(self, ray: Ray) -> Array:
        """Places [..., 3] from the middle of the sensor at which it is met by rays at its middle's z."""
        directions, places = ray.d.double().numpy(), np.zeros(ray.o.shape)
        places[..., :2] = ray.o[..., :2].double().numpy()
        normal = self._tilt[:, 2]  # what the turn makes of z
        along = -(places @ normal) / (directions @ normal)
        return np.asarray(places + along[..., None] * directions)

    def paths(self, objects: Array, pupil: Array, wavelengths_um: Array, start_z: float) -> Array:
        """Places [M, P, S, 3] along rays: at the plane z = start_z, at each surface and on the sensor, tilted or not; NaN once
        stopped."""
        lens = self._exact
        rays = self._rays(lens, objects, pupil, wavelengths_um)
        start = (rays.o + rays.d * ((start_z - rays.o[..., 2:]) / rays.d[..., 2:])).clone()
        ray, record = lens.trace(rays, record=True)
        landed = self._met(ray.prop_to(lens.d_sensor)) + np.array([0, 0, self.length_mm])
        landed[(ray.is_valid <= 0).numpy()] = np.nan
        return np.stack([*torch.stack([start, *record[1:]]).numpy(), landed], axis=1)

    def outline(self, count: int) -> list[tuple[Array, bool]]:
        """Profiles [count, 2] of the surfaces as (z, height), from rim to rim, and whether glass follows each."""
        profiles = []
        for i, surface in enumerate(self._exact.surfaces):
            height = torch.linspace(-surface.r, surface.r, count, dtype=torch.float64)
            sag = surface.sag(height, torch.zeros_like(height)) if hasattr(surface, "c") else torch.zeros_like(height)
            z = float(self._exact.surf_d(i)) + sag
            profiles.append((np.asarray(torch.stack([z, height], dim=1).numpy()), surface.mat2.name != "air"))
        return profiles

    @property
    def stop(self) -> int:
        """Which surface is the stop."""
        return int(self._exact.aper_idx)

    @property
    def length_mm(self) -> float:
        """From the first vertex to the sensor."""
        return float(self._exact.d_sensor)

    def chief_rays(self, objects: Array, wavelengths_um: Array, pupils: Pupils, near: Array | None = None) -> Array:
        """Sensor positions [M, 2] of the rays through the stop's centre, NaN where they are vignetted.

        Args:
            objects: [M, 3].
            wavelengths_um: [M].
            pupils: of these bundles.
            near: [M, 2] places of the chief rays in their pupils, nearly, in radii; or [M], x of those of objects on the x axis of
                a centred lens. Found by a search if not given.
        """
        found = []
        size = SEARCH_BLOCK if near is None else NEAR_BLOCK
        for start in range(0, len(objects), size):
            block = np.minimum(np.arange(start, start + size), len(objects) - 1)
            args = (objects[block], wavelengths_um[block], pupils.take(block))
            landed = self._chief_block(*args) if near is None else self._chief_nearby(*args, near[block])
            found.append(landed[: len(objects) - start])
        return np.concatenate(found)

    def _chief_block(self, objects: Array, wavelengths_um: Array, pupils: Pupils) -> Array:
        disc = self._nearest_to_stop(objects, wavelengths_um, pupils)
        for step in (0.1, 0.01, 0.001, 0.001):
            # Central differences of the map pupil -> stop, then Newton's step to the stop's centre.
            probes = disc[:, None] + step * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
            stop, _ = self._at_stop(objects, pupils.place(probes), wavelengths_um)
            jacobian = np.stack([stop[:, 0] - stop[:, 1], stop[:, 2] - stop[:, 3]], axis=-1) / (2 * step)
            newton = solve(jacobian, stop.mean(1))
            disc = disc - np.where(np.isfinite(newton), newton, 0.0)  # no step where probes are blocked
        aimed = pupils.place(np.repeat(disc[:, None], 4, axis=1))
        ray, _ = self._exact.trace(self._rays(self._exact, objects, aimed, wavelengths_um))
        landed = self._landed(self._exact, ray)[:, 0]
        reached = ((ray.is_valid[:, 0] > 0) & (ray.stop_dist[:, 0] < 1e-6)).numpy()
        return np.where(reached[:, None], landed, np.nan)

    def _chief_nearby(self, objects: Array, wavelengths_um: Array, pupils: Pupils, near: Array) -> Array:
        """Chief rays from pupil points within a hundredth of theirs: one quadratic step, in stop and sensor at once.

        If `near` is on the x axis [M], so are the objects, and the steps go along the meridional plane only.
        """
        lens = self._exact
        stencil = ALONG if near.ndim == 1 else AROUND
        middle = np.stack([near, np.zeros_like(near)], axis=-1) if near.ndim == 1 else near
        pupil = pupils.place(middle[:, None] + STENCIL_STEP * stencil)
        ray, record = lens.trace(self._rays(lens, objects, pupil, wavelengths_um), record=True)
        of = lens.surfaces[lens.aper_idx]
        stop = (record[lens.aper_idx + 1][..., :2] - torch.stack([of.pos_x, of.pos_y])).numpy()
        found = (ray.is_valid > 0).all(-1).numpy()
        landed = self._landed(lens, ray)
        if near.ndim == 1:
            x, moved = _zero_along(stop[..., 0], landed[..., 0])
            places, moved = np.stack([x, np.zeros_like(x)], axis=-1), np.abs(moved)
        else:
            places, moved = _zero_around(stop, landed)
        return np.where((found & (moved < 1))[:, None], places, np.nan)

    def _nearest_to_stop(self, objects: Array, wavelengths_um: Array, pupils: Pupils) -> Array:
        """Of the points SPREAD, the one [M, 2] whose ray passes nearest the stop's centre."""
        _, distance = self._at_stop(objects, pupils.place(SPREAD), wavelengths_um)
        return np.asarray(SPREAD[distance.argmin(1)])

    def _at_stop(self, objects: Array, pupil: Array, wavelengths_um: Array) -> tuple[Array, Array]:
        """Where rays cross the stop, [M, S, 2], and how far from its centre, [M, S]; both in stop radii, inf if blocked."""
        lens = self._exact
        stop = lens.surfaces[lens.aper_idx]
        ray, _ = lens.trace(self._rays(lens, objects, pupil, wavelengths_um), surf_range=range(lens.aper_idx + 1))
        center = torch.stack([stop.pos_x, stop.pos_y])
        return ((ray.o[..., :2] - center) / stop.r).numpy(), ray.stop_dist.numpy()

    def _rays(self, lens: GeoLens, objects: Array, pupil: NDArray[np.floating], wavelengths_um: Array) -> Ray:
        """Rays [M, S] from objects [M, 3] through points [M, S, 2] of the pupil's plane, in mm."""
        plane, _ = self.pupil(objects)
        start = np.maximum(objects[:, 2], START_Z)
        fraction = ((start - objects[:, 2]) / (plane - objects[:, 2]))[:, None]
        # Stored coordinate by coordinate: DeepLens' sums over x, y, z then run over whole vectors, 1.3x faster.
        origin, direction = np.empty((2, 3, *pupil.shape[:2]))
        for axis in range(2):
            direction[axis] = pupil[..., axis] - objects[:, axis, None]
        direction[2] = (plane - objects[:, 2])[:, None]
        for axis in range(2):
            origin[axis] = objects[:, axis, None] + direction[axis] * fraction
        origin[2] = start[:, None]  # exactly: a ray a bit before START_Z would have DeepLens move the whole block
        o, d = (torch.from_numpy(values).to(lens.dtype).movedim(0, -1) for values in (origin, direction))
        ray = Ray(o, d, lens.primary_wvln, device="cpu")
        # One refractive index per bundle, broadcast over its rays.
        ray.wvln = torch.from_numpy(np.asarray(wavelengths_um) / self._scale).to(lens.dtype).reshape(-1, 1, 1)
        return ray

    def wave_psf(
        self,
        point: Array,
        wavelength_um: float,
        pupil: Pupils,
        side_px: int,
        rays: int,
        model: str,
        recenter: bool,
        seed: int,
    ) -> Array:
        """DeepLens' own wave-optical PSF [T, T] of a field point [3], unit sum.

        Args:
            pupil: that point's, one bundle.
            model: "coherent" (exit pupil, angular spectrum) or "huygens".
            seed: of DeepLens' random pupil samples.

        Raises:
            ValueError: a coherent PSF on a sensor that is not square, which DeepLens would cut out at the wrong place.
        """
        assert self._scale == 1  # refused when the data was planned
        if model == "coherent" and not np.isclose(*self.half_sensor):
            raise ValueError("psf_model coherent needs a square sensor")
        z, _ = self.pupil(self.object_points(point[None]))
        radius = float((np.hypot(*pupil.center.T) + pupil.radii.max(axis=1))[0])
        with seeded(seed), rays_through(self._exact, float(z[0]), radius):
            options = {"spp": rays, "model": model, "recenter": recenter}
            psf = self._exact.psf(torch.from_numpy(point), wvln=wavelength_um, ks=side_px, **options)
        return np.asarray(psf.double().numpy())


def _zero_along(stop: Array, sensor: Array) -> tuple[Array, Array]:
    """Sensor x [M] of the ray through the stop's centre, by parabolas through rays at `ALONG`, and its place in their steps."""
    # stop(t) = s1 + t slope + t^2 bend / 2 with t in steps; two of Newton's iterations find its zero.
    slope, bend = (stop[:, 2] - stop[:, 0]) / 2, stop[:, 2] - 2 * stop[:, 1] + stop[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = -stop[:, 1] / slope
        for _ in range(2):
            t = t - (stop[:, 1] + t * slope + t**2 * bend / 2) / (slope + t * bend)
    x = sensor[:, 1] + t * (sensor[:, 2] - sensor[:, 0]) / 2
    return x + t**2 * (sensor[:, 2] - 2 * sensor[:, 1] + sensor[:, 0]) / 2, t


def _zero_around(stop: Array, sensor: Array) -> tuple[Array, Array]:
    """Sensor places [M, 2] likewise, by quadratic surfaces through rays at `AROUND`; how far the ray is, in steps."""
    both = np.concatenate([stop, sensor], axis=-1)
    left, right, down, up, middle = (both[:, ray] for ray in range(5))
    linear = np.stack([(right - left) / 2, (up - down) / 2], axis=-1)  # [M, 4, 2]
    bend_x, bend_y = right - 2 * middle + left, up - 2 * middle + down
    cross = (both[:, 5] - both[:, 6] - both[:, 7] + both[:, 8]) / 4
    bends = np.stack([np.stack([bend_x, cross], -1), np.stack([cross, bend_y], -1)], axis=-1)  # [M, 4, 2, 2]
    t = np.zeros((len(stop), 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(4):
            along = np.einsum("mkab,mb->mka", bends, t)
            value = middle + np.einsum("mka,ma->mk", linear + along / 2, t)
            t = t - solve((linear + along)[:, :2], value[:, :2])
        value = middle + np.einsum("mka,ma->mk", linear + np.einsum("mkab,mb->mka", bends, t) / 2, t)
    return value[:, 2:], np.nan_to_num(np.hypot(*t.T), nan=np.inf)


def _squared_height(places: torch.Tensor, surface: Any, vertex_z: torch.Tensor) -> torch.Tensor:
    """Squared distance [...] of places [..., 3] from the axis of a surface, about which DeepLens has its opening."""
    squared: torch.Tensor = places[..., :2].square().sum(-1)
    if is_centred(surface):
        return squared
    away = places - torch.stack([surface.pos_x, surface.pos_y, vertex_z])
    along = (away * surface.vec_local).sum(-1)
    squared = away.square().sum(-1) - along.square()
    return squared


def _behind_last(lens: GeoLens) -> torch.Tensor:
    """Distance from the last surface to the sensor, as the lens holds it."""
    thickness: torch.Tensor = lens.surfaces[-1].d_next.detach()
    return thickness


def solve(jacobian: Array, value: Array) -> Array:
    """Solutions [n, 2] of 2 x 2 systems by Cramer's rule; a singular one gives a step that is not finite."""
    (a, b), (c, d) = jacobian[:, 0].T, jacobian[:, 1].T
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.stack([d * value[:, 0] - b * value[:, 1], a * value[:, 1] - c * value[:, 0]], axis=-1)
        return np.asarray(step / (a * d - b * c)[:, None])
