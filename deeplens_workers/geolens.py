"""DeepLens' own lens classes, and lenses loaded: the only module that imports DeepLens (2 s, and torch)."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeplens_workers.glasses import find_glass, for_thermal_infrared
from deeplens_workers.import_cost import placeholders
from deeplens_workers.lens_data import DEEPLENS_UM, LONGEST_UM
from deeplens_workers.lens_files.glass_names import D_LINE
from deeplens_workers.threads import one_thread
from deeplens_workers.units import AsBuilt, GlassChange

# DeepLens draws with one, saves pictures with another and scores them with the third: nearly all of the time its import takes.
with placeholders("matplotlib", "matplotlib.patches", "matplotlib.pyplot", "torchvision", "torchvision.utils", "lpips"):
    from deeplens import GeoLens, Lens, PSFNetLens, Ray
    from deeplens.config import PSF_KS
    from deeplens.imgsim import conv_psf_map
    from deeplens.material import Material

# Surfaces that look the same from every azimuth when they are neither tilted, decentred nor square.
CENTRED = {"Aperture", "Aspheric", "Plane", "QTypeSurface", "Spheric", "Stop", "ThinLens"}
__all__ = [
    "PSF_KS",
    "GeoLens",
    "Lens",
    "PSFNetLens",
    "Ray",
    "assembled",
    "conv_psf_map",
    "is_centred",
    "load_lenses",
    "rays_through",
]


def load_lenses(text: str, glasses: tuple[str, ...]) -> tuple[float, tuple[GeoLens, GeoLens, GeoLens]]:
    """Three lenses, the second in float64, from DeepLens' JSON; and the factor by which wavelengths are divided before these
    lenses see them.

    DeepLens takes none of 10 um or more. Rays need of a wavelength only the refractive indices, so a lens for the thermal
    infrared gets them by its true wavelength.
    """
    tree = json.loads(text)
    scale = LONGEST_UM / DEEPLENS_UM if for_thermal_infrared(glasses) else 1.0
    tree["primary_wvln"] /= scale
    tree["wvln_rgb"] = [wave / scale for wave in tree["wvln_rgb"]]
    loaded = []
    with one_thread(), redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "lens.json")
        path.write_text(json.dumps(tree))
        for dtype in (torch.float32, torch.float64, torch.float32):
            # In float64 until the surfaces' normals are known: float32 knows no cosine of a fraction of an arc minute.
            lens = GeoLens(device="cpu", dtype=torch.float64)
            lens.read_lens_json(str(path))
            if scale != 1:
                for surface in lens.surfaces:
                    surface.mat2 = _Infrared(surface.mat2.name, scale)
            # What `read_lens` does after this.
            lens.create_dummy_sensor()
            lens.to(lens.device)
            lens.astype(dtype)
            lens.post_computation()
            loaded.append(lens)
    first, exact, beyond = loaded
    return scale, (first, exact, beyond)


class _Infrared(Material):
    """A glass whose index is asked for with wavelengths that are `scale` times too short."""

    def __init__(self, name: str, scale: float) -> None:
        super().__init__("air")
        self.name, self._glass, self._scale = name, find_glass(name), scale

    def ior(self, wvln: Any) -> torch.Tensor:
        """Refractive indices, as DeepLens asks for them."""
        waves = torch.as_tensor(wvln)
        index = np.vectorize(lambda wave: self._glass.index(self._scale * wave), otypes=[float])
        return torch.from_numpy(np.asarray(index(waves.detach().double().numpy()))).to(waves.dtype)


class _Melt(Material):
    """A glass whose melt differs from its catalogue."""

    def __init__(self, glass: Material, change: GlassChange) -> None:
        super().__init__("air")
        self.name, self._glass, self._change = glass.name, glass, change
        self._at_d = float(glass.ior(torch.tensor(D_LINE, dtype=torch.float64)))

    def ior(self, wvln: Any) -> torch.Tensor:
        """Refractive indices, as DeepLens asks for them."""
        found: torch.Tensor = self._change.of(self._at_d, self._glass.ior(wvln))
        return found


def assembled(design: list[Any], unit: AsBuilt, dtype: torch.dtype) -> list[Any]:
    """The surfaces of a unit, as those of its design are: of the same classes, openings and glasses."""
    built = []
    for i, (designed, made) in enumerate(zip(design, unit.surfaces, strict=True)):
        # In float64 until its normal is known: float32 knows no cosine of a fraction of an arc minute.
        exact = {"r": designed.r, "d_next": torch.tensor(made["d_next"], dtype=torch.float64)}
        surface = type(designed).init_from_dict(made | exact)
        surface.astype(dtype)
        surface.mat2 = _Melt(designed.mat2, unit.glasses[i]) if i in unit.glasses else designed.mat2
        built.append(surface)
    return built


@contextmanager
def rays_through(lens: GeoLens, z_mm: float, radius_mm: float) -> Iterator[None]:
    """DeepLens' own sampling draws rays from another disc than the pupil it found, which misses light off the axis."""
    own = lens.entr_pupilz, lens.entr_pupilr
    lens.entr_pupilz, lens.entr_pupilr = z_mm, radius_mm
    try:
        yield
    finally:
        lens.entr_pupilz, lens.entr_pupilr = own


def is_centred(surface: object) -> bool:
    """Whether a surface is the same at every azimuth about the optical axis."""
    tilt = getattr(surface, "vec_local", None)
    return (
        type(surface).__name__ in CENTRED
        and not getattr(surface, "is_square", False)
        and float(getattr(surface, "pos_x", 0.0)) == 0.0
        and float(getattr(surface, "pos_y", 0.0)) == 0.0
        and (tilt is None or torch.equal(tilt.abs().cpu(), torch.tensor([0.0, 0.0, 1.0], dtype=tilt.dtype)))
    )
