"""Tracing rays through a lens with DeepLens: the only module that imports it (5 s, and torch).

Surfaces, materials, tracing and splatting are DeepLens'. This module chooses which rays to trace (scrambled Sobol points
of the entrance pupil), finds the chief ray by Newton's method instead of searching random samples, and keeps what `psf()`
hides: the energy outside the kernel and the chief ray's position.

N = field point, C = wavelength, S = ray (pupil sample), T = traced pixel, K = model pixel. Lengths in mm unless named.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.import_cost import placeholders
from deeplens_workers.kernels import Kernels
from deeplens_workers.pooling import area_weights

# DeepLens saves pictures with the one and scores them with the other; they are two thirds of the time its import takes.
with placeholders("torchvision", "torchvision.utils", "lpips"):
    from deeplens import GeoLens, Ray
    from deeplens.imgsim import forward_integral

Array = NDArray[np.float64]

# Rays traced at once per wavelength: 3 x 8192 rays of 24 bytes stay in a core's cache; 16384 are 20 % slower per ray.
RAY_BLOCK = 8192
# Points whose chief rays are found together. Always exactly so many (padded), so that a point's bits never depend on
# its neighbours: torch's vector code and its scalar remainder may round differently.
CHIEF_BLOCK = 16
# DeepLens propagates far bundles to this plane first; starting there spares float32 the distance to the object.
START_Z = -10.0


class RayTracer:
    """A lens file, loaded, with a sensor of a given pixel pitch.

    The sensor keeps its size from the file, so field points mean the same at every pitch; its resolution follows.

    Args:
        lens_path: DeepLens .json, Zemax .zmx or CODE V .seq file.
        pixel_pitch_um: sensor pixel pitch in micrometres.

    Raises:
        ValueError: DeepLens cannot load the file.
    """

    def __init__(self, lens_path: Path, pixel_pitch_um: float) -> None:
        with _one_thread(), redirect_stdout(io.StringIO()):
            try:
                self.lens = GeoLens(str(lens_path), device="cpu")
                self._exact = GeoLens(str(lens_path), device="cpu", dtype=torch.float64)
            except Exception as error:  # its parsers raise whatever a malformed line leads to
                raise ValueError(
                    f"lens {lens_path}: DeepLens cannot load it: {type(error).__name__}: {error}"
                ) from error
        self.pixel_mm = pixel_pitch_um * 1e-3
        width, height = self.lens.sensor_size
        # Not set_sensor(): it demands equal aspect ratios to the last bit, and recomputes the field of view for nothing.
        self.lens.sensor_res = (round(width / self.pixel_mm), round(height / self.pixel_mm))
        self.lens.pixel_size = self.pixel_mm
        self._half_sensor = np.array([width, height]) / 2

    def render(
        self,
        points: NDArray[np.floating],
        wavelengths_um: tuple[float, ...],
        trace_px: int,
        kernel_px: int,
        rays: int,
        seed: int,
    ) -> Kernels:
        """Kernels of field points; each point's bits depend on nothing but that point and the other arguments.

        Args:
            points: [N, 3] x and y normalised to half the sensor's width and height; depth in mm, negative.
            wavelengths_um: one channel each.
            trace_px: side T of the traced kernel in sensor pixels.
            kernel_px: side K of the area-pooled kernel.
            rays: rays per point and wavelength; a power of two serves best.
            seed: of the pupil samples.

        Raises:
            ValueError: no light of a point reaches the kernel's window.
        """
        objects = self.object_points(points)
        with torch.inference_mode(), _one_thread():
            centers, offsets = self._centers(objects)
            traced, rms, lost = [], [], []
            for point, obj, center in zip(np.asarray(points, dtype=np.float64), objects, centers, strict=True):
                pupil = np.stack([pupil_samples(rays, seed, point, wavelength) for wavelength in wavelengths_um])
                kernel, radius, outside = self._splat(obj, center, pupil, wavelengths_um, trace_px)
                if not kernel.sum((1, 2)).all():
                    raise ValueError(f"no light of field point {point.tolist()} (x, y, depth in mm) reaches its kernel")
                traced.append(kernel)
                rms.append(radius)
                lost.append(outside)
        weights = area_weights(trace_px, kernel_px)
        pooled = np.stack([weights @ kernel @ weights.T for kernel in traced])
        pooled /= pooled.sum((2, 3), keepdims=True)
        return Kernels(
            kernels=pooled.astype(np.float32),
            chief_ray_offset_px=(offsets / self.pixel_mm).astype(np.float32),
            rms_radius_px=(np.stack(rms) / self.pixel_mm).astype(np.float32),
            lost=np.stack(lost).astype(np.float32),
        )

    def object_points(self, points: NDArray[np.floating]) -> Array:
        """Positions [N, 3] of field points in object space, by pinhole projection as in DeepLens."""
        points = np.asarray(points, dtype=np.float64)
        scale = -points[:, 2:] / self.lens.foclen
        return np.concatenate([points[:, :2] * scale * self._half_sensor, points[:, 2:]], axis=1)

    def _rays(self, lens: GeoLens, objects: Array, pupil: Array) -> Ray:
        """Rays [..., S] from objects [..., 3] through entrance pupil points [..., S, 2] in units of its radius."""
        pupil_z, pupil_r = lens.get_entrance_pupil()
        target = np.concatenate([pupil * pupil_r, np.full((*pupil.shape[:-1], 1), pupil_z)], axis=-1)
        objects = np.broadcast_to(objects[..., None, :], target.shape)
        direction = target - objects
        start = np.maximum(objects[..., 2:], START_Z)
        origin = objects + direction * ((start - objects[..., 2:]) / (pupil_z - objects[..., 2:]))
        # Rays are stored coordinate by coordinate: DeepLens' sums over x, y, z then run over whole vectors, 1.3x faster.
        o, d = (
            torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 0))).to(lens.dtype).movedim(0, -1)
            for a in (origin, direction)
        )
        return Ray(o, d, lens.primary_wvln, device="cpu")

    def _splat(
        self, obj: Array, center: Array, pupil: Array, wavelengths_um: tuple[float, ...], trace_px: int
    ) -> tuple[Array, Array, Array]:
        """One point: traced kernels [C, T, T] (rays per pixel), RMS radius [C] in mm, lost share [C]."""
        channels = len(wavelengths_um)
        kernel = np.zeros((channels, trace_px, trace_px))
        moments = np.zeros((channels, 4))  # sums over valid rays of 1, x, y, x^2 + y^2
        pointc = torch.from_numpy(center).to(self.lens.dtype).expand(channels, 2)
        wavelengths = torch.tensor(wavelengths_um, dtype=self.lens.dtype).reshape(channels, 1, 1)
        for block in np.split(pupil, range(RAY_BLOCK, pupil.shape[1], RAY_BLOCK), axis=1):
            ray = self._rays(self.lens, np.broadcast_to(obj, (channels, 3)), block)
            ray.wvln = wavelengths  # one refractive index per channel, broadcast over its rays
            ray = self.lens.trace2sensor(ray).flip_xy()
            kernel += forward_integral(ray, ps=self.pixel_mm, ks=trace_px, pointc=pointc).double().numpy()
            valid = ray.is_valid.double()
            xy = (ray.o[..., :2] - pointc[:, None]).double() * valid[..., None]
            terms = (valid, xy[..., 0], xy[..., 1], xy.square().sum(-1))
            moments += torch.stack([term.sum(-1) for term in terms], dim=-1).numpy()
        count = np.maximum(moments[:, :1], 1.0)
        mean = moments / count
        variance = mean[:, 3] - mean[:, 1] ** 2 - mean[:, 2] ** 2
        lost = 1.0 - kernel.sum((1, 2)) / count[:, 0]
        return kernel, np.sqrt(np.maximum(variance, 0.0)), np.clip(lost, 0.0, 1.0)

    def _centers(self, objects: Array) -> tuple[Array, Array]:
        """Kernel centres [N, 2] (chief rays of the primary wavelength) and their offsets [N, 2] from the pinhole image.

        In mm, in the upright image. As in DeepLens, a chief ray that is vignetted is replaced by the pinhole image.
        """
        pinhole = -objects[:, :2] / objects[:, 2:] * self.lens.foclen
        blocks = np.split(objects, range(CHIEF_BLOCK, len(objects), CHIEF_BLOCK))
        chief = np.concatenate([self._chief_rays(block) for block in blocks])
        centers = np.where(np.isnan(chief), pinhole, chief)
        return centers, centers - pinhole

    def _chief_rays(self, objects: Array) -> Array:
        """Sensor positions [n, 2] (upright, mm) of rays through the stop's centre, NaN where vignetted; n <= CHIEF_BLOCK."""
        count = len(objects)
        objects = np.concatenate([objects, np.repeat(objects[-1:], CHIEF_BLOCK - count, axis=0)])
        pupil = self._nearest_to_stop(objects)
        for step in (0.1, 0.01, 0.001, 0.001):
            # Central differences of the map pupil -> stop, then Newton's step to the stop's centre.
            probes = pupil[:, None] + step * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
            stop, _ = self._at_stop(objects, probes)
            jacobian = np.stack([stop[:, 0] - stop[:, 1], stop[:, 2] - stop[:, 3]], axis=-1) / (2 * step)
            pupil = pupil - _solve(jacobian, stop.mean(1))
        ray = self._exact.trace2sensor(self._rays(self._exact, objects, np.repeat(pupil[:, None], 4, axis=1)))
        found = (ray.is_valid[:, 0] > 0) & (ray.stop_dist[:, 0] < 1e-6)
        position = torch.where(found[:, None], -ray.o[:, 0, :2], torch.nan).numpy()
        return np.asarray(position[:count])

    def _nearest_to_stop(self, objects: Array) -> Array:
        """Of 64 points spread over the entrance pupil, the one [n, 2] whose ray passes nearest the stop's centre."""
        golden = np.pi * (3 - np.sqrt(5)) * np.arange(64)
        spread = np.sqrt(np.arange(64) / 64)[:, None] * np.stack([np.cos(golden), np.sin(golden)], axis=-1)
        _, distance = self._at_stop(objects, np.broadcast_to(spread, (len(objects), 64, 2)))
        return np.asarray(spread[distance.argmin(1)])

    def _at_stop(self, objects: Array, pupil: Array) -> tuple[Array, Array]:
        """Where rays cross the stop, [n, S, 2], and how far from its centre, [n, S]; both in stop radii, inf if blocked."""
        lens = self._exact
        stop = lens.surfaces[lens.aper_idx]
        ray, _ = lens.trace(self._rays(lens, objects, pupil), surf_range=range(lens.aper_idx + 1))
        center = torch.stack([stop.pos_x, stop.pos_y])
        return ((ray.o[..., :2] - center) / stop.r).numpy(), ray.stop_dist.numpy()


def pupil_samples(rays: int, seed: int, point: Array, wavelength_um: float) -> Array:
    """Points [S, 2] spread evenly over the unit disc: a Sobol sequence, scrambled anew for each field point and wavelength.

    Measured on the triplet, relative L2 noise of 15 px kernels pooled from 64: 0.39 % with 2048 points, 0.17 % with 4096,
    0.08 % with 8192, where pseudo-random points leave 3.5 % (Owen, "Scrambled net variance for integrals of smooth
    functions", 1997). Powers of two keep the sequence balanced.
    """
    identity = np.array([seed, *point, wavelength_um], dtype=np.float64) + 0.0  # + 0.0 makes -0.0 and 0.0 the same
    digest = hashlib.sha256(identity.tobytes()).digest()
    engine = torch.quasirandom.SobolEngine(2, scramble=True, seed=int.from_bytes(digest[:7]))
    u = engine.draw(rays, dtype=torch.float64).numpy()
    angle = 2 * np.pi * u[:, 1]
    return np.asarray(np.sqrt(u[:, :1]) * np.stack([np.cos(angle), np.sin(angle)], axis=-1))


def _solve(jacobian: Array, value: Array) -> Array:
    """Solutions [n, 2] of 2 x 2 systems by Cramer's rule; a singular one gives a step that is not finite."""
    (a, b), (c, d) = jacobian[:, 0].T, jacobian[:, 1].T
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.stack([d * value[:, 0] - b * value[:, 1], a * value[:, 1] - c * value[:, 0]], axis=-1)
        return np.asarray(step / (a * d - b * c)[:, None])


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: actors are the parallelism, and DeepLens' splat adds in a fixed order only then."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
