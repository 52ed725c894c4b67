"""Effective PSFs on a grid of the detector, as FITS files that photutils reads: `GriddedPSFModel.read(file)`.

An effective PSF (ePSF) has at each of its samples the share of the light that a whole detector pixel there would gather (Anderson &
King 2000). A kernel of pooled pixels is one, of a detector with its pixels. Of a detector whose pixels are s x s of them, sums over
s x s pixels are, on samples s times as dense (OVERSAMP): no light is guessed at, and an ePSF's sum is s^2, as photutils has it.

The file is as STPSF writes them: an image [N, n, n], and for each ePSF a card DET_YXi = (y, x), the detector pixel where it holds,
from (0, 0) in the middle of the first. FITS images have their first row at the bottom, so y rises upwards.

Shape legend: N = nodes of the grid, C = channel, K = side of a kernel in pixels, n = side of an ePSF in samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.kernel_optics import KernelOptics
from deeplens_workers.psf_file import describe, optics_metadata
from spaces.files import replacing

Array = NDArray[np.float64]
Predict = Callable[[Array], NDArray[np.float32]]
"""Ideal image points [M, 2] in [-1, 1] -> kernels [M, C, K, K]."""

WHOLE = 1e-3
"""How far a detector pixel may be from a whole number of kernel pixels, as a share of it."""
FEWEST_SAMPLES = 4
"""Along a side, which photutils' cubic splines need."""


@dataclass(frozen=True)
class PsfGrid:
    """ePSFs [N, C, n, n], row 0 at the top, and the detector pixels [N, 2] = (x, y) where they hold.

    Args:
        error: [2, C] mean and largest relative L2 error of what photutils interpolates in the middles between nodes.
        beyond: how far nodes are of light from outside of the field that was trained on, at most, in halves of the sensor. They have
            the nearest kernels.
    """

    optics: KernelOptics
    epsfs: NDArray[np.float32]
    pixels: Array
    oversampling: int
    pixel_um: float
    depth_mm: float
    focus_mm: float | None
    error: Array
    beyond: float

    @classmethod
    def of(
        cls,
        predict: Predict,
        optics: KernelOptics,
        grid: tuple[int, int],
        pixel_um: float | None = None,
        depth_mm: float | None = None,
        focus_mm: float | None = None,
    ) -> PsfGrid:
        """The ePSFs of a model, evenly over its sensor.

        Distortion is taken out where it is known: each node has the light that comes to its place.

        Args:
            grid: (columns, rows), at least 2 each.
            pixel_um: side of a detector pixel; None: a kernel's pixel.
            depth_mm, focus_mm: that `predict` is of; None: the first that was trained on.

        Raises:
            ValueError: see `oversampling`.
        """
        side = optics.pixel_um if pixel_um is None else pixel_um
        factor = oversampling(optics, side)
        nodes, middles = _places(*grid)

        def at(places: Array) -> tuple[Array, NDArray[np.float32]]:
            known = optics.distortion is not None
            ideal = optics.ideal_points(places, depth_mm, focus_mm) if known else places
            return ideal, effective(predict(ideal.clip(-1, 1)), factor)

        ideal, epsfs = at(nodes)
        size_px = 1e3 * np.array(optics.sensor_mm) / side
        return cls(
            optics,
            epsfs,
            (1 + nodes) / 2 * size_px - 0.5,
            factor,
            side,
            depth_mm or optics.depths_mm[0],
            focus_mm or next(iter(optics.focus_mm), None),
            _between(epsfs, at(middles)[1], grid),
            float(np.abs(ideal).max() - 1),
        )

    def write(self, path: Path, channel: int) -> None:
        """The file of one channel, from 0, whole or not at all.

        Raises:
            ModuleNotFoundError: astropy is not installed.
            OSError: the path cannot be written.
        """
        from astropy.io import fits

        image = fits.PrimaryHDU(np.ascontiguousarray(self.epsfs[:, channel, ::-1]))
        header = image.header
        for card, value, comment in self._cards(channel):
            header[card] = (value, comment)
        one = self.optics.model_copy(update={"channels": self.optics.channels[channel : channel + 1]})
        describe(header, optics_metadata(one))
        for index, (x, y) in enumerate(self.pixels):
            name = f"DET_YX{index}"
            header[name if len(name) <= 8 else f"HIERARCH {name}"] = f"({y:.6f}, {x:.6f})"
        with replacing(path) as temporary:
            image.writeto(temporary)

    def _cards(self, channel: int) -> list[tuple[str, float | int | str, str]]:
        mean, most = self.error[:, channel].tolist()
        cards: list[tuple[str, float | int | str, str]] = [
            ("OVERSAMP", self.oversampling, "samples of an ePSF along a detector pixel"),
            ("PIXELUM", self.pixel_um, "[um] side of a detector pixel"),
            ("CHANNEL", channel + 1, "of the model, the first is 1"),
            ("DEPTHMM", self.depth_mm, "[mm] object distance"),
            ("ERRMEAN", mean, "relative L2 error between ePSFs, on average"),
            ("ERRMAX", most, "relative L2 error between ePSFs, at most"),
            ("BEYOND", max(0.0, self.beyond), "half sensors that nodes are off the field"),
            ("DISTORT", self.optics.distortion is not None, "F: the lens' distortion is not known"),
        ]
        return cards if self.focus_mm is None else [*cards, ("FOCUSMM", self.focus_mm, "[mm] focus distance")]


def oversampling(optics: KernelOptics, pixel_um: float) -> int:
    """Kernel pixels along a detector pixel.

    Raises:
        ValueError: they are no whole number, or the kernels are no ePSFs of any detector.
    """
    if optics.pixel_filter != "box":
        raise ValueError(
            f"these kernels' pixels gather by a {optics.pixel_filter} that reaches to their neighbours' middles, and photutils takes the "
            "light of whole pixels; search with data.pixel_filter box"
        )
    ratio = pixel_um / optics.pixel_um
    whole = round(ratio) if math.isfinite(ratio) else 0
    if not 1 <= whole <= optics.kernel_px or abs(ratio / whole - 1) > WHOLE:
        raise ValueError(
            f"a detector's pixel has 1 to {optics.kernel_px} of this model's kernel pixels of {optics.pixel_um:.6g} um along its side, a "
            f"whole number, such as {optics.pixel_um:.6g} or {2 * optics.pixel_um:.6g} um; but got {pixel_um:g} um"
        )
    if optics.kernel_px + whole - 1 < FEWEST_SAMPLES:
        raise ValueError(f"photutils takes {FEWEST_SAMPLES} samples along a side, but kernels have {optics.kernel_px}")
    return whole


def effective(kernels: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The light in squares of `factor` x `factor` pixels, at every place where they meet kernels [..., K, K]: [..., K + factor - 1] twice."""
    border = [(0, 0)] * (kernels.ndim - 2) + [(factor - 1, factor - 1)] * 2
    padded = np.pad(kernels, border)
    for axis in (-2, -1):
        padded = np.lib.stride_tricks.sliding_window_view(padded, factor, axis).sum(axis=-1)
    return padded


def _places(columns: int, rows: int) -> tuple[Array, Array]:
    """Places of the sensor, of nodes to its edges and of the middles between them: [rows columns, 2] and likewise, x fastest."""

    def product(x: Array, y: Array) -> Array:
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)

    x, y = (np.linspace(-1, 1, one) for one in (columns, rows))
    return product(x, y), product((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)


def _between(nodes: NDArray[np.float32], middles: NDArray[np.float32], grid: tuple[int, int]) -> Array:
    """[2, C] mean and largest relative L2 error of bilinear interpolation in the middles: the mean of four nodes."""
    columns, rows = grid
    table = nodes.reshape(rows, columns, *nodes.shape[1:])
    found = (table[1:, 1:] + table[1:, :-1] + table[:-1, 1:] + table[:-1, :-1]) / 4
    true = middles.reshape(found.shape)
    error = np.linalg.norm(found - true, axis=(-2, -1)) / np.linalg.norm(true, axis=(-2, -1))
    return np.stack([error.mean(axis=(0, 1)), error.max(axis=(0, 1))]).astype(np.float64)
