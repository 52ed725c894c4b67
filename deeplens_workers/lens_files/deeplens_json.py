"""DeepLens' own JSON lenses: checked before DeepLens sees them, and written so that it reads what is meant.

Lengths in mm, wavelengths in um. Keys in parentheses are for information, as DeepLens has them; ours say what the lens file
said of wavelengths, and which pixels suit the lens.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Literal, Self, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from deeplens_workers.glasses import AIR, find_glass, is_glass
from deeplens_workers.lens_data import LONGEST_UM, SHORTEST_UM
from deeplens_workers.lens_files.conditions import Conditions
from deeplens_workers.lens_files.glass_names import nearest_glass
from deeplens_workers.lens_files.prescription import BadLens, Surface
from spaces.errors import nearest

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
# What deeplens reads of a surface, or writes for information; what else a file says would silently not count.
OF_EVERY_TYPE = frozenset(
    [
        "idx",
        "surf_idx",
        "type",
        "r",
        "d",
        "d_next",
        "mat1",
        "mat2",
        "is_aperture",
        "is_square",
        "pos_xy",
        "vec_local",
        "device",
    ]
)
OF_TYPE: dict[str, frozenset[str]] = {
    "Aperture": frozenset(),
    "Aspheric": frozenset({"roc", "c", "k", "ai", "ai2", "use_ai2"}),
    "Cubic": frozenset({"b", "b3"}),
    "Plane": frozenset({"l"}),
    "Spheric": frozenset({"roc", "c"}),
    "Stop": frozenset(),
    "ThinLens": frozenset({"f"}),
}
SAME_CURVATURE = 1e-4
# Of the lens; others are for information, unless they look like one of these.
OF_LENS = ("surfaces", "r_sensor", "sensor_size", "sensor_res", "primary_wvln", "wvln_rgb", "obj_depth")
# The types that the rays of `ray_optics` follow.
CENTRED = ("Aperture", "Aspheric", "Plane", "Spheric", "Stop")
CURVED, STOPS = ("Aspheric", "Spheric"), ("Aperture", "Stop")
# What deeplens takes where the file has none.
PRIMARY_UM, RGB_UM = 0.587, (0.656, 0.587, 0.486)
DEPTH_MM = -10000.0
# Half-diagonals of `r_sensor` and `sensor_size` that differ by more are worth a word.
SAME_SENSOR = 1e-3
WAVELENGTHS, SAMPLING = "(wavelengths_um)", "(sampling)"
SIDE_PX = 2000
# Sides in pixels stay below, 16 bits: then their products with a pitch of 21 bits are exact.
MOST_PX, PITCH_BITS = 65535, 21


class JsonSurface(BaseModel):
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
        self._check_known(given)
        curvature(given)
        if self.mat2 is not None and not is_glass(self.mat2):
            raise ValueError(f"`mat2` names no glass deeplens knows: {self.mat2!r}; {nearest_glass(self.mat2)}")
        return self

    def _check_known(self, given: dict[str, Any]) -> None:
        known = OF_EVERY_TYPE | OF_TYPE.get(self.type, given.keys())
        for key, value in given.items():
            if key not in known and not key.startswith("(") and np.any(value):
                raise ValueError(
                    f"a {self.type} surface has no `{key}` (a note would be `({key})`); {nearest(key, sorted(known))}"
                )
        roc, c = given.get("roc"), given.get("c")
        if not (isinstance(roc, int | float) and isinstance(c, int | float)):
            return
        if not math.isclose(1 / roc if roc else 0.0, c, rel_tol=SAME_CURVATURE):  # a radius of 0 is a plane's
            raise ValueError(f"`roc` and `c` contradict each other: {roc:g} mm and {c:g} 1/mm")


class JsonLens(BaseModel):
    """The keys of a DeepLens JSON lens that must be right for it to load. Sensor half-diagonal or size in mm."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    surfaces: tuple[JsonSurface, ...] = Field(min_length=1)
    r_sensor: PositiveFloat | None = None
    sensor_size: tuple[PositiveFloat, PositiveFloat] | None = None
    sensor_res: tuple[PositiveInt, PositiveInt] = (SIDE_PX, SIDE_PX)
    primary_wvln: float = Field(PRIMARY_UM, gt=SHORTEST_UM, lt=LONGEST_UM)
    wvln_rgb: tuple[float, float, float] = RGB_UM
    obj_depth: float | None = Field(None, lt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.r_sensor is None and self.sensor_size is None and self._informed() is None:
            raise ValueError("missing `r_sensor` (sensor half-diagonal in mm) or `sensor_size`")
        for key in self.model_extra or {}:
            if not key.startswith("(") and (close := get_close_matches(key, OF_LENS, n=1, cutoff=0.8)):
                raise ValueError(f"there is no `{key}`; did you mean `{close[0]}`?")
        if all(surface.type in STOPS for surface in self.surfaces):
            raise ValueError("`surfaces` holds no refracting surface")
        for wave in self.wvln_rgb:
            if not SHORTEST_UM < wave < LONGEST_UM:
                raise ValueError(
                    f"`wvln_rgb` holds wavelengths from {SHORTEST_UM} to {LONGEST_UM} um, but got {wave:g}"
                )
        return self

    def _informed(self) -> tuple[float, float] | None:
        """Sensor size for information, which deeplens takes if there is nothing else."""
        size = (self.model_extra or {}).get("(sensor_size)")
        if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int | float) for side in size):
            return None
        return (float(size[0]), float(size[1])) if min(size) > 0 else None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the sensor in mm."""
        size = self.sensor_size or (self._informed() if self.r_sensor is None else None)
        if size is not None:
            return size
        assert self.r_sensor is not None
        diagonal = math.sqrt(self.sensor_res[0] ** 2 + self.sensor_res[1] ** 2)
        # In deeplens' order, to the bit.
        return 2 * self.r_sensor * self.sensor_res[0] / diagonal, 2 * self.r_sensor * self.sensor_res[1] / diagonal


def parse(content: bytes) -> dict[str, Any]:
    """A JSON lens as written.

    Raises:
        BadLens: it is no JSON, or a number is not finite.
    """
    try:
        tree = json.loads(content, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else error.reason
        raise BadLens(f"not valid JSON: {where}") from None
    except (RecursionError, ValueError):
        raise BadLens("not valid JSON: too deep, or a number of too many digits") from None
    if not isinstance(tree, dict):
        raise BadLens("expected a mapping with the keys surfaces, r_sensor, ...")
    return tree


def check(tree: dict[str, Any]) -> JsonLens:
    """The keys of a JSON lens.

    Raises:
        BadLens: the first that is wrong.
    """
    try:
        return JsonLens.model_validate(tree)
    except ValidationError as error:
        raise BadLens(_first_problem(error)) from None


def centred_surfaces(lens: JsonLens) -> tuple[Surface, ...] | None:
    """The surfaces as `ray_optics` follows them; None if there are others among them."""
    found = [_centred(surface) for surface in lens.surfaces]
    known = [surface for surface in found if surface is not None]
    if len(known) < len(found):
        return None
    stops = [i for i, surface in enumerate(lens.surfaces) if (surface.model_extra or {}).get("is_aperture")]
    stops = stops or [i for i, surface in enumerate(lens.surfaces) if surface.type in STOPS]
    radii = [surface.semi_diameter or math.inf for surface in known]
    stop = stops[0] if stops else radii.index(min(radii))
    return tuple(replace(surface, is_stop=i == stop) for i, surface in enumerate(known))


def _centred(surface: JsonSurface) -> Surface | None:
    """One surface; None if it is tilted, decentred, square, or of a type that is not followed."""
    extra = surface.model_extra or {}
    plain = {"pos_xy": [0, 0], "vec_local": [0, 0, 1], "is_square": False}
    if surface.type not in CENTRED or any(extra.get(key, value) != value for key, value in plain.items()):
        return None
    terms = _numbers(extra, "ai") if surface.type == "Aspheric" else ()
    # As deeplens has it: unless `use_ai2` is false, the first coefficient is that of r^2.
    a2, terms = (terms[0], terms[1:]) if terms and extra.get("use_ai2", True) else (0.0, terms)
    radius = surface.r if surface.r is not None else _number(extra, "l")
    tree = surface.model_dump()
    return Surface(
        curvature(tree),
        surface.d_next,
        medium(tree),
        _number(extra, "k") if surface.type == "Aspheric" else 0.0,
        a2,
        terms,
        radius,
    )


def curvature(surface: dict[str, Any]) -> float:
    """Of a surface as DeepLens reads it, in 1/mm: `roc`, of which 0 is a plane's, or else `c`."""
    if surface["type"] not in CURVED:
        return 0.0
    if "roc" not in surface:
        return _number(surface, "c")
    radius = _number(surface, "roc")
    return 1 / radius if radius else 0.0


def medium(surface: dict[str, Any]) -> str:
    """What DeepLens takes to be behind a surface: `air`, or the name of a glass."""
    name = str(surface.get("mat2") or "air")
    return "air" if surface["type"] in STOPS or find_glass(name) is AIR else name


def _number(extra: dict[str, Any], key: str) -> float:
    value = extra.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadLens(f"surfaces: `{key}` must be a number, but got {_short(value)}")
    return float(value)


def _numbers(extra: dict[str, Any], key: str) -> tuple[float, ...]:
    values = extra.get(key) or []
    if not isinstance(values, list):
        raise BadLens(f"surfaces: `{key}` must be a list of numbers, but got {_short(values)}")
    return tuple(_number({key: value}, key) for value in values)


def informed_wavelengths(tree: dict[str, Any]) -> tuple[float, ...]:
    """Wavelengths that `canonical` wrote; none in a lens from elsewhere."""
    waves = _numbers(tree, WAVELENGTHS)
    if not all(SHORTEST_UM < wave < LONGEST_UM for wave in waves):
        raise BadLens(
            f"`{WAVELENGTHS}` holds wavelengths from {SHORTEST_UM} to {LONGEST_UM} um, but got {_short(tree[WAVELENGTHS])}"
        )
    return waves


def informed_sampling(tree: dict[str, Any]) -> tuple[float, int] | None:
    """Pixel pitch in um and pixels across a kernel that suit the lens' spots, if the file names them."""
    given = tree.get(SAMPLING)
    if given is None:
        return None
    match given:
        case {"pixel_pitch_um": int() | float() as pitch, "trace_px": int() as side} if pitch > 0 and side > 0:
            return float(pitch), side
    raise BadLens(f"`{SAMPLING}` holds a positive `pixel_pitch_um` and `trace_px`, but got {_short(given)}")


def surface_tree(surface: Surface, before: str) -> dict[str, Any]:
    """A surface as DeepLens reads it.

    Args:
        before: the glass in front of it.
    """
    tree: dict[str, Any] = {
        "type": "Plane",
        "r": surface.semi_diameter,
        "d_next": surface.thickness,
        "mat2": surface.glass,
    }
    terms = [*([surface.a2] if surface.a2 else []), *surface.terms]
    if any(terms) or (surface.conic and surface.curvature):
        tree |= {
            "type": "Aspheric",
            "c": surface.curvature,
            "k": surface.conic,
            "ai": terms,
            "use_ai2": bool(surface.a2),
        }
    elif surface.curvature:
        tree |= {"type": "Spheric", "c": surface.curvature}
    elif surface.is_stop and before == surface.glass == "air":
        tree |= {"type": "Aperture"}
    return tree | ({"is_aperture": True} if surface.is_stop else {})


def canonical(tree: dict[str, Any], conditions: Conditions, resolution: tuple[int, int]) -> str:
    """The text of a lens that DeepLens reads as meant.

    The sensor's size stands alone: beside a half-diagonal DeepLens would not see it.

    Args:
        tree: the lens, with its surfaces.
        resolution: pixels, of exactly the sensor's aspect ratio.
    """
    waves = conditions.wavelengths_um
    surfaces = [surface | ({"use_ai2": True} if _is_legacy(surface) else {}) for surface in tree["surfaces"]]
    known: dict[str, Any] = {
        "primary_wvln": conditions.primary_um,
        "wvln_rgb": tree.get("wvln_rgb", [waves[0], waves[len(waves) // 2], waves[-1]]),
        WAVELENGTHS: list(waves),
        "obj_depth": conditions.depth_mm,
        "sensor_size": list(conditions.sensor_mm),
        "sensor_res": list(resolution),
        "surfaces": surfaces,
    }
    if conditions.sampling is not None:
        pitch, side = conditions.sampling
        known[SAMPLING] = {"pixel_pitch_um": pitch, "trace_px": side}
    others = {key: value for key, value in tree.items() if key not in ("r_sensor", "(sensor_size)", *known)}
    return json.dumps(others | known, indent=1)


def _is_legacy(surface: dict[str, Any]) -> bool:
    """Whether DeepLens has to guess, with a message, that the first coefficient is that of r^2."""
    return surface["type"] == "Aspheric" and bool(surface.get("ai")) and "use_ai2" not in surface


def whole_pixels(
    size: tuple[float, float], resolution: tuple[int, int] | None = None
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Width and height in mm, and pixels of exactly that aspect ratio, which DeepLens demands to the last bit.

    Sides that no few pixels divide are changed by less than a hundred-thousandth.

    Raises:
        BadLens: the sides differ by more than a hundred times.
    """
    width, height = size
    if resolution is not None and width * resolution[1] == height * resolution[0]:
        return size, resolution
    if not 0.01 <= width / height <= 100:
        raise BadLens(f"a sensor of {width:g} x {height:g} mm: its sides differ by more than a hundred times")
    few = Fraction(min(size) / max(size)).limit_denominator(MOST_PX)
    low, high = few.numerator, few.denominator
    scale = max(1, min(round(SIDE_PX / low), MOST_PX // high))
    pixels = (high * scale, low * scale) if width >= height else (low * scale, high * scale)
    if width * pixels[1] == height * pixels[0]:
        return size, pixels
    mantissa, exponent = math.frexp(width / pixels[0])
    pitch = math.ldexp(round(math.ldexp(mantissa, PITCH_BITS)), exponent - PITCH_BITS)
    return (pitch * pixels[0], pitch * pixels[1]), pixels


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadLens(f"every number must be finite, but got {text if len(text) < 30 else text[:27] + '...'}")
    return value


def _whole(text: str) -> int:
    return int(text) if len(text) < 300 else int(_finite(text))


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
