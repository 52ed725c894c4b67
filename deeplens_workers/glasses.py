"""The glasses deeplens knows and their refractive indices, read from its catalogue files without importing it; and which
deeplens this is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deeplens_workers.lens_data import DEEPLENS_UM
from spaces.errors import SpaceError


@cache
def deeplens_version() -> str:
    """Version of the installed `deeplens-core`.

    Raises:
        SpaceError: it is missing, or the unrelated distribution `deeplens` occupies its import name.
    """
    try:
        unrelated = version("deeplens")
    except PackageNotFoundError:
        unrelated = None
    if unrelated is not None:
        raise SpaceError(
            f"the installed distribution `deeplens` {unrelated} is not the lens library and takes its import name; "
            "run `pip uninstall deeplens`, then `pip install --force-reinstall deeplens-core`"
        )
    try:
        return version("deeplens-core")
    except PackageNotFoundError:
        raise SpaceError("`deeplens-core` is not installed; run `pip install deeplens-core`") from None


def is_glass(name: str) -> bool:
    """Whether deeplens can turn a material name into a refractive index: a catalogue name, air, or 'nd/Vd'."""
    index, slash, abbe = name.partition("/")
    if slash:
        try:
            return 1 <= float(index) < math.inf and float(abbe) > 0
        except ValueError:
            return False
    return name.lower() in ("air", "vacuum", "occluder") or name.lower() in known_glasses()


@dataclass(frozen=True)
class Glass:
    """A material's refractive index, as DeepLens computes it.

    `nd` and `vd` are the catalogue's, or NaN where it has none; `valid_um` the wavelengths it is known for, None: any;
    `maker` in lower case, "" if the catalogue does not say.
    """

    name: str
    formula: Literal["sellmeier", "schott", "cauchy", "interpolated", "rii1", "rii2", "rii3"]
    coefficients: tuple[float, ...]
    nd: float = math.nan
    vd: float = math.nan
    valid_um: tuple[float, float] | None = None
    maker: str = ""

    def index(self, wavelength_um: float) -> float:
        """Refractive index against air at a wavelength in micrometres; NaN where the formula has no value."""
        with np.errstate(all="ignore"):
            return float(_FORMULAS[self.formula](np.float64(wavelength_um), self.coefficients))

    def covers(self, wavelength_um: float) -> bool:
        """Whether the glass is known at this wavelength: DeepLens refuses any other."""
        return self.valid_um is None or self.valid_um[0] <= wavelength_um <= self.valid_um[1]


AIR = Glass("air", "cauchy", (1.0, 0.0), 1.0, math.inf)
# Lines of the Abbe number in DeepLens' 'nd/Vd', in nm.
_LINE_C, _LINE_D, _LINE_F = 656.3, 587.6, 486.1


def abbe_terms(nd: float, vd: float) -> tuple[float, float]:
    """A and B (in nm^2) of n = A + B / wavelength^2 for an index and Abbe number: DeepLens' 'nd/Vd'."""
    b = (nd - 1) / vd / (_LINE_F**-2 - _LINE_C**-2)
    return nd - b / _LINE_D**2, b


def abbe_name(a: float, b: float) -> str:
    """DeepLens' 'nd/Vd' for A and B (in nm^2) of n = A + B / wavelength^2; inverse of `abbe_terms`.

    An index that does not fall with wavelength has no positive Abbe number: the result then fails `is_glass`.
    """
    nd = a + b / _LINE_D**2
    return f"{nd:.9g}/{(nd - 1) / (b * (_LINE_F**-2 - _LINE_C**-2)) if b else 1e9:.9g}"


def _two_term(w: np.float64, c: tuple[float, ...]) -> np.float64:
    return np.float64(c[0] + c[1] / (w * 1e3) ** 2)


def _sellmeier(w: np.float64, c: tuple[float, ...]) -> np.float64:
    return np.float64(np.sqrt(1 + sum(k * w**2 / (w**2 - pole) for k, pole in zip(c[::2], c[1::2], strict=True))))


def _schott(w: np.float64, c: tuple[float, ...]) -> np.float64:
    s = w**2
    return np.float64(np.sqrt(c[0] + c[1] * s + (c[2] + (c[3] + (c[4] + c[5] / s) / s) / s) / s))


def _interpolated(w: np.float64, c: tuple[float, ...]) -> np.float64:
    half = len(c) // 2
    return np.float64(np.interp(w, c[:half], c[half:]))


def _rii1(w: np.float64, c: tuple[float, ...]) -> np.float64:
    return np.float64(np.sqrt(1 + c[0] + sum(k * w**2 / (w**2 - pole**2) for k, pole in _pairs(c))))


def _rii2(w: np.float64, c: tuple[float, ...]) -> np.float64:
    return np.float64(np.sqrt(1 + c[0] + sum(k * w**2 / (w**2 - pole) for k, pole in _pairs(c))))


def _rii3(w: np.float64, c: tuple[float, ...]) -> np.float64:
    return np.float64(np.sqrt(c[0] + sum(k * w**power for k, power in _pairs(c))))


def _pairs(c: tuple[float, ...]) -> zip[tuple[float, float]]:
    return zip(c[1:-1:2], c[2::2], strict=True)


_FORMULAS: dict[str, Callable[[np.float64, tuple[float, ...]], np.float64]] = {
    "sellmeier": _sellmeier,
    "schott": _schott,
    "cauchy": _two_term,
    "interpolated": _interpolated,
    "rii1": _rii1,
    "rii2": _rii2,
    "rii3": _rii3,
}


def find_glass(name: str) -> Glass:
    """A glass by a name that `is_glass` accepts, in any case.

    Raises:
        KeyError: no such glass.
    """
    lower = name.lower()
    if lower in ("air", "vacuum", "occluder"):
        return AIR
    if lower in _catalogue():
        return _catalogue()[lower]
    if not is_glass(lower):
        raise KeyError(name)
    nd, vd = (float(part) for part in lower.split("/"))
    return Glass(lower, "cauchy", abbe_terms(nd, vd), nd, vd)


def for_thermal_infrared(names: Iterable[str]) -> bool:
    """Whether all glasses of a lens, of which there are some, are known at wavelengths that DeepLens does not take."""
    glasses = [find_glass(name) for name in names]
    return bool(glasses) and all(glass.valid_um is not None and glass.covers(DEEPLENS_UM) for glass in glasses)


@cache
def known_glasses() -> tuple[str, ...]:
    """Lower-case names of all catalogue glasses, sorted."""
    return tuple(sorted({*_catalogue(), "air"}))


def same_name(name: str) -> tuple[Glass, ...]:
    """The glasses of this name in all of DeepLens' sources, the one that it takes last."""
    return tuple(source[name.lower()] for source in _sources() if name.lower() in source)


@cache
def _catalogue() -> dict[str, Glass]:
    """All glasses by lower-case name. Later sources win, as with DeepLens: its AGF files over its tables over the rest."""
    found = {name: glass for source in _sources() for name, glass in source.items()}
    del found["air"]
    return found


@cache
def _sources() -> tuple[dict[str, Glass], ...]:
    deeplens_version()
    spec = find_spec("deeplens")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "material"
    return (
        _refractiveindex(json.loads((folder / "refractiveindex_data.json").read_text())),
        _tables(json.loads((folder / "materials_data.json").read_text())),
        *(_agf(folder / f"{name}.AGF") for name in ("MISC", "PLASTIC2022", "CDGM", "SCHOTT")),
    )


def _refractiveindex(data: dict[str, Any]) -> dict[str, Glass]:
    found = {name: _interpolation(name, entry) for name, entry in data["INTERP"].items()}
    for name, entry in data["FORMULA"].items():
        formula: Any = f"rii{entry['formula']}"
        valid, numbers = entry.get("wvln_range"), (entry["nd"], entry["vd"])
        nd, vd = (math.nan if value is None else float(value) for value in numbers)
        maker = entry.get("maker", "").split()[0]
        found[name] = Glass(name, formula, tuple(entry["coeffs"]), nd, vd, tuple(valid) if valid else None, maker)
    return found


def _interpolation(name: str, entry: dict[str, Any]) -> Glass:
    waves, indices = entry["wvlns"], entry["n"]
    valid = tuple(entry.get("wvln_range", (min(waves), max(waves))))
    plain = Glass(name, "interpolated", (*waves, *indices), valid_um=valid, maker=entry.get("maker", ""))
    if not (min(waves) <= 0.4861 and max(waves) >= 0.6563):
        return plain
    nd, nf, nc = (plain.index(wave) for wave in (0.58756, 0.4861, 0.6563))
    return replace(plain, nd=nd, vd=(nd - 1) / (nf - nc) if nf != nc else math.inf)


def _tables(data: dict[str, Any]) -> dict[str, Glass]:
    found = {}
    numbers = data["MATERIAL_TABLE"]
    for name, (nd, vd) in numbers.items():
        found[name] = Glass(name, "cauchy", abbe_terms(nd, vd), nd, vd)
    for table, formula in (("SCHOTT_TABLE", "schott"), ("SELLMEIER_TABLE", "sellmeier")):
        for name, coefficients in data[table].items():
            nd, vd = numbers.get(name, (math.nan, math.nan))
            chosen: Any = formula
            found[name] = Glass(name, chosen, tuple(coefficients), nd, vd)
    return found | {name: _interpolation(name, entry) for name, entry in data["INTERP_TABLE"].items()}


def _agf(path: Path) -> dict[str, Glass]:
    content = path.read_bytes()
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    found: dict[str, Glass] = {}
    maker = path.stem.lower() if path.stem in ("CDGM", "SCHOTT") else ""
    name = ""
    for line in content.decode("utf-16" if marked else "utf-8").splitlines():
        words = line.split()
        match words[:1]:
            case ["NM"]:
                name = words[1].lower()
                formula: Any = {1: "schott", 2: "sellmeier"}[int(float(words[2]))]
                found[name] = Glass(name, formula, (), float(words[4]), float(words[5]), maker=maker)
            case ["CD"]:
                found[name] = replace(found[name], coefficients=tuple(float(word) for word in words[1:7]))
            case ["LD"]:
                found[name] = replace(found[name], valid_um=(float(words[1]), float(words[2])))
    return found
