"""What a model's kernels are of and what their pixels mean: enough to use them without the run, the lens file or DeepLens.

`config.json` of an exported model holds it under `optics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from pydantic import Field

from deeplens_workers.lens_data import COORDINATES, Centre, LensData, LensFacts, PixelFilter, several_distances
from spaces import store
from spaces.frozen import Frozen
from spaces.system import Source

Array = NDArray[np.float64]

DEGREE = 11
"""Highest degree of a distortion's polynomials. A phone lens' is then known to 0.2 um RMS, to 1.4 um with 7, and the triplet's to 0.002 um."""

FEWEST = 4
"""Positions for each depth and focus distance, which a plane in x and y needs."""


class Distortion(Frozen):
    """Which ideal image point is seen at a place of the sensor, for objects at one distance and one focus.

    Both are (x, y) in halves of the sensor's width and height, x to the right and y up; the ideal point is where a pinhole of the
    lens' magnification would have it. Each of its coordinates is the sum over i, j of c_ij T_i(x) T_j(y) (Chebyshev polynomials).
    """

    depth_mm: float
    focus_mm: float | None = Field(description="none: as in the lens file")
    x: tuple[tuple[float, ...], ...] = Field(description="c_ij of the ideal point's x: a row for each i")
    y: tuple[tuple[float, ...], ...]
    error_um: float = Field(description="RMS difference from the traced chief rays, on the sensor")


class KernelOptics(Frozen):
    """Of kernels [C, K, K], row 0 at the top (+y), each channel of unit sum."""

    lens: str
    lens_sha256: str = Field(description="of the lens file's content")
    kernel_px: int = Field(description="side K in pixels")
    pixel_um: float = Field(description="side of a kernel's pixel on the sensor")
    pixel_filter: PixelFilter = Field(
        "box",
        description="what a pixel gathers: its own square, or by a triangle that reaches to its neighbours' centres",
    )
    channels: tuple[tuple[tuple[float, float], ...], ...] = Field(
        description="(wavelength in um, weight) of the light of each channel"
    )
    centre: Centre = Field(description="what lies at the middle of a kernel")
    sensor_mm: tuple[float, float] = Field(description="width and height; x and y are normalised to half of them")
    depths_mm: tuple[float, ...] = Field(description="object distances that were trained on, negative")
    focus_mm: tuple[float, ...] = Field(description="focus distances likewise; none: as in the lens file")
    focal_length_mm: float | None = None
    f_number: float | None = None
    primary_um: float
    psf_model: str = "geometric"
    distortion: tuple[Distortion, ...] | None = Field(
        description="at each combination of depth and focus distance; empty: kernels carry it; none: not known"
    )

    @classmethod
    def of(cls, data: LensData, source: Source, distortion: tuple[Distortion, ...] | None) -> KernelOptics:
        """Of the kernels of a run's data section."""
        facts = data.lens_facts
        assert facts is not None
        return cls(
            lens=source.name,
            lens_sha256=source.sha256,
            kernel_px=data.kernel_px,
            pixel_um=data.pixel_pitch_um * data.trace_px / data.kernel_px,
            pixel_filter=data.pixel_filter,
            channels=data.channels(),
            centre=data.centre,
            depths_mm=data.depths_mm,
            focus_mm=data.focus_mm,
            psf_model=getattr(data, "psf_model", "geometric"),
            distortion=distortion,
            **facts.model_dump(include=set(LensFacts.model_fields) & set(cls.model_fields)),
        )

    @property
    def varied(self) -> dict[str, tuple[float, ...]]:
        """Distances in mm that vary, by name: conditions besides x and y."""
        return several_distances(self.depths_mm, self.focus_mm)

    @property
    def wavelengths_um(self) -> tuple[float, ...]:
        """Of each channel, the mean by weight."""
        return tuple(sum(w * s for w, s in one) / sum(s for _, s in one) for one in self.channels)

    def ideal_points(self, places: Array, depth_mm: float | None = None, focus_mm: float | None = None) -> Array:
        """The ideal image points [..., 2] that are seen at places [..., 2] of the sensor: a distorted picture's pull-back.

        Between the depths and focus distances of `distortion` it is linear in their vergence; beyond, the nearest one's.

        Args:
            depth_mm: of the object, negative; None: the first that was trained on.
            focus_mm: of the focus, likewise.

        Raises:
            ValueError: it is not known.
        """
        if self.distortion is None:
            raise ValueError("the distortion of these kernels' lens is not known")
        if not self.distortion:
            return places
        rows, columns = len(self.distortion[0].x), len(self.distortion[0].x[0])
        mixed = np.zeros((2, rows, columns))
        for one, share in zip(self.distortion, self._shares(depth_mm, focus_mm), strict=True):
            mixed += share * np.array([one.x, one.y])
        x, y = places[..., 0], places[..., 1]
        return np.stack([chebyshev.chebval2d(x, y, coefficients) for coefficients in mixed], axis=-1)

    def _shares(self, depth_mm: float | None, focus_mm: float | None) -> Array:
        """Weights of the entries of `distortion`, which are at every combination of their depths and focus distances."""
        assert self.distortion
        shares = np.ones(len(self.distortion))
        known = (self.depths_mm, self.focus_mm)
        for name, wanted, several in zip(COORDINATES[2:], (depth_mm, focus_mm), known, strict=True):
            if not several:  # as in the lens file
                continue
            vergence = np.array([1 / getattr(one, name) for one in self.distortion])
            levels = np.unique(vergence)
            weights = [np.interp(1 / (wanted or several[0]), levels, one) for one in np.eye(len(levels))]
            shares *= np.array(weights)[np.searchsorted(levels, vergence)]
        return shares


def optics_facts(data: LensData, source: Source, traced: str | Path) -> dict[str, Any]:
    """The key `optics` of an exported model's config.json, {} of a data section of the first versions, which had no sensor.

    Args:
        traced: directory of a set in the cache whose chief rays show the distortion.
    """
    if data.lens_facts is None:
        return {}
    return {"optics": KernelOptics.of(data, source, traced_distortion(traced, data)).model_dump(mode="json")}


def traced_distortion(entry: str | Path, data: LensData) -> tuple[Distortion, ...] | None:
    """Of the chief rays of a rendered set, at each of its depths and focus distances; empty if kernels are centred on the ideal
    image point, and so carry it themselves; None of a set with too few positions at each.

    Args:
        entry: directory of the set in the cache: a grid over the field, or as many positions.
    """
    if data.centre == "pinhole":
        return ()
    found = store.read(Path(entry), ("points", "chief_ray_offset_px"))
    return chief_ray_distortion(found["points"], found["chief_ray_offset_px"], data)


def chief_ray_distortion(
    points: NDArray[np.float32], offsets_px: NDArray[np.float32], data: LensData
) -> tuple[Distortion, ...] | None:
    """Of chief rays, at each depth and focus distance of the points; None of too few.

    Args:
        points: [N, 3] or [N, 4], x and y in [-1, 1], then distances in mm.
        offsets_px: [N, 2] in sensor pixels, x right and y up, chief ray minus pinhole image (`Kernels.chief_ray_offset_px`).
    """
    assert data.lens_facts is not None
    half_um = 1e3 * np.array(data.lens_facts.sensor_mm) / 2
    seen = np.isfinite(offsets_px).all(axis=1)
    ideal, offsets, distances = (one[seen].astype(np.float64) for one in (points[:, :2], offsets_px, points[:, 2:]))
    places = ideal + offsets * data.pixel_pitch_um / half_um
    combinations, which = np.unique(distances, axis=0, return_inverse=True)
    if len(ideal) < FEWEST * len(combinations):
        return None
    return tuple(
        fit_distortion(ideal[which == i], places[which == i], half_um, *combination)
        for i, combination in enumerate(combinations.tolist())
    )


def fit_distortion(
    ideal: Array, seen: Array, half_um: Array, depth_mm: float, focus_mm: float | None = None
) -> Distortion:
    """Polynomials that give the ideal points [N, 2] of the places [N, 2] where they are seen, by least squares.

    Args:
        half_um: half the sensor's width and height.
    """
    # A term for every second point at most, so that it does not go through each of them and astray between.
    degree = max(1, min(DEGREE, int(np.sqrt(len(ideal))) - 1))
    powers = np.arange(degree + 1)
    kept = np.add.outer(powers, powers) <= degree
    terms = chebyshev.chebvander2d(seen[:, 0], seen[:, 1], [degree, degree])[:, kept.ravel()]
    solved = np.linalg.lstsq(terms, ideal, rcond=None)[0]
    error = np.sqrt(np.mean(np.sum(((terms @ solved - ideal) * half_um) ** 2, axis=1)))
    coefficients = np.zeros((2, degree + 1, degree + 1))
    coefficients[:, kept] = solved.T
    x, y = (_rows(one) for one in coefficients)
    return Distortion(depth_mm=depth_mm, focus_mm=focus_mm, x=x, y=y, error_um=float(error))


def _rows(matrix: Array) -> tuple[tuple[float, ...], ...]:
    rows: Sequence[Sequence[float]] = np.round(matrix, 9).tolist()
    return tuple(tuple(row) for row in rows)
