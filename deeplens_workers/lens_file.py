"""A lens by shipped name or path, checked without importing deeplens (5 s), so that bad input fails at once.

Lengths in mm, wavelengths in um, as in DeepLens' own JSON format. Extra keys are allowed: DeepLens writes some for
information, such as `(sensor_size)`.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from deeplens_workers.glasses import deeplens_version, is_glass, known_glasses
from spaces.errors import SpaceError, nearest
from spaces.system import Source

LENSES = Path(__file__).parent / "lenses"
SUFFIXES = (".json", ".zmx", ".seq")

SurfaceType = Literal[
    "Aperture", "Aspheric", "Binary2Phase", "Cubic", "Phase", "Plane", "Spheric", "Stop", "ThinLens"
]  # what deeplens 2.5 reads
# Surface type -> what it needs besides `r` and `d_next`; "a|b" is satisfied by either.
NEEDS: dict[str, tuple[str, ...]] = {
    "Aspheric": ("roc|c", "k", "mat2"),
    "Cubic": ("b", "mat2"),
    "Plane": ("mat2",),
    "Spheric": ("roc|c", "mat2"),
    "ThinLens": ("f",),
}


class LensFile(Source):
    """A lens file that passed the checks. `sha256` is the hex digest of its bytes."""


class Surface(BaseModel):
    """One surface: `r` semi-aperture, `d_next` thickness to the next vertex, both in mm; `mat2` the glass after it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    type: SurfaceType
    r: PositiveFloat | None = None
    d_next: float
    mat2: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {**self.model_dump(exclude_none=True)}
        radius = "r|l" if self.type == "Plane" else "r"
        for need in (radius, *NEEDS.get(self.type, ())):
            if not any(key in given for key in need.split("|")):
                raise ValueError(f"a {self.type} surface needs `{need.replace('|', '` or `')}`")
        if self.mat2 is not None and not is_glass(self.mat2):
            raise ValueError(f"`mat2` names no glass deeplens knows: {self.mat2!r}; {nearest_glass(self.mat2)}")
        return self


class LensDescription(BaseModel):
    """The keys of a DeepLens JSON lens that must be right for it to load. Sensor half-diagonal or size in mm."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    surfaces: tuple[Surface, ...] = Field(min_length=1)
    r_sensor: PositiveFloat | None = None
    sensor_size: tuple[PositiveFloat, PositiveFloat] | None = None
    sensor_res: tuple[PositiveInt, PositiveInt] = (2000, 2000)
    primary_wvln: float | None = Field(None, gt=0.1, lt=10)
    wvln_rgb: tuple[float, float, float] | None = None
    obj_depth: float | None = Field(None, lt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        size = self.sensor_size or (self.model_extra or {}).get("(sensor_size)")
        if self.r_sensor is None and size is None:
            raise ValueError("missing `r_sensor` (sensor half-diagonal in mm) or `sensor_size`")
        if all(surface.type in ("Aperture", "Stop") for surface in self.surfaces):
            raise ValueError("`surfaces` holds no refracting surface")
        return self


def available() -> list[str]:
    """Names of the shipped lenses."""
    return sorted(path.stem for path in LENSES.glob("*.json"))


def find_lens(name_or_path: str) -> LensFile:
    """The lens of a shipped name or of a .json, .zmx or .seq path, checked.

    Raises:
        SpaceError: one line naming the file, the key and what is valid.
    """
    deeplens_version()
    path = LENSES / f"{name_or_path}.json"
    if name_or_path not in available():
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise SpaceError(f"lens {name_or_path}: no such shipped lens or file; {nearest(name_or_path, available())}")
        if path.suffix not in SUFFIXES:
            raise SpaceError(f"lens {name_or_path}: expected a file ending in {', '.join(SUFFIXES)}, got {path.name}")
    content = path.read_bytes()
    try:
        _CHECKS[path.suffix](content)
    except _BadLens as error:
        raise SpaceError(f"lens {name_or_path}: {error}") from None
    return LensFile(path.stem, path.resolve(), hashlib.sha256(content).hexdigest())


class _BadLens(Exception):
    """What is wrong, without the file's name."""


def nearest_glass(name: str) -> str:
    """A hint for a misspelt glass: the nearest known one (there are hundreds, so never all of them)."""
    hint = nearest(name.lower(), known_glasses())
    return hint if hint.startswith("did you mean") else "use a catalogue name such as 'n-bk7', or 'nd/Vd'"


def _check_json(content: bytes) -> None:
    try:
        tree = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else error.reason
        raise _BadLens(f"not valid JSON: {where}") from None
    if not isinstance(tree, dict):
        raise _BadLens("expected a mapping with the keys surfaces, r_sensor, ...")
    try:
        LensDescription.model_validate(tree)
    except ValidationError as error:
        raise _BadLens(_first_problem(error)) from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _BadLens(f"every number must be finite, but got {text}")
    return value


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    loc = ".".join(str(part) for part in first["loc"])
    prefix = f"{loc}: " if loc else ""
    if first["type"] == "missing":
        return f"{prefix}missing"
    if first["type"] == "value_error":
        return prefix + first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        return f"{prefix}unknown surface type {first['input']!r}; {nearest(str(first['input']), get_args(SurfaceType))}"
    return f"{prefix}{first['msg'][0].lower()}{first['msg'][1:]}, but got {_short(first['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_zmx(content: bytes) -> None:
    lines = _lines(content, ("utf-8-sig", "utf-16"))
    surfaces = [line for line in lines if line.startswith("SURF")]
    if len(surfaces) < 3:
        raise _BadLens(f"a Zemax lens needs object, lens and image `SURF` blocks, but got {len(surfaces)} of them")
    for line in lines:
        if line.upper().startswith("UNIT") and line.upper().split()[1:2] != ["MM"]:
            raise _BadLens(f"UNIT: only MM is supported, but got {line[4:].strip()!r}")
    for line in lines:
        if line.startswith("TYPE") and line.split()[1:2] not in (["STANDARD"], ["EVENASPH"]):
            raise _BadLens(f"TYPE: only STANDARD and EVENASPH surfaces are supported, but got {line[4:].strip()!r}")


def _check_seq(content: bytes) -> None:
    lines = _lines(content, ("utf-8-sig", "latin-1"))
    for start, meaning in (("SO", "object"), ("S ", "lens"), ("SI", "image")):
        if not any(line.startswith(start) for line in lines):
            raise _BadLens(f"a CODE V lens needs an `{start.strip()}` line ({meaning} surface), but has none")


def _lines(content: bytes, encodings: tuple[str, ...]) -> list[str]:
    for encoding in encodings:
        try:
            return [line.strip() for line in content.decode(encoding).splitlines()]
        except UnicodeError:
            continue
    raise _BadLens(f"not text in any of {', '.join(encodings)}")


_CHECKS = {".json": _check_json, ".zmx": _check_zmx, ".seq": _check_seq}
