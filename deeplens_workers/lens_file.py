"""A lens by shipped name or path: checked without importing deeplens (5 s), so that bad input fails at once, and as the JSON
text that DeepLens loads, whatever the file's format.

Lengths in mm, wavelengths in um, as in DeepLens' own JSON format.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from deeplens_workers.glasses import deeplens_version, find_glass
from deeplens_workers.lens_files.codev import read_codev
from deeplens_workers.lens_files.conditions import ASKED, Conditions, f_number, far_depth, resolve
from deeplens_workers.lens_files.deeplens_json import (
    DEPTH_MM,
    SAME_SENSOR,
    JsonLens,
    canonical,
    centred_surfaces,
    check,
    informed_sampling,
    informed_wavelengths,
    medium,
    parse,
    surface_tree,
    whole_pixels,
)
from deeplens_workers.lens_files.draft import check_configuration
from deeplens_workers.lens_files.prescription import BadLens, Prescription
from deeplens_workers.lens_files.ray_optics import Lens
from deeplens_workers.lens_files.text import decode
from deeplens_workers.lens_files.zemax import read_zemax
from spaces.errors import SpaceError, nearest
from spaces.system import Source

LENSES = Path(__file__).parent / "lenses"
Size = tuple[float, float]


@dataclass(frozen=True)
class LensFile(Source):
    """A lens file that passed the checks. `path` is the user's file, `sha256` the hex digest of its bytes.

    Args:
        text: the lens as DeepLens' JSON, in which every surface has an opening and the sensor a size.
        conditions: what the file says about how the lens is used.
        notes: sentences for the user, on what was decided or left out.
        configurations: how many the file has; one is in `text`.
    """

    text: str
    conditions: Conditions
    notes: tuple[str, ...] = ()
    configurations: int = 1

    @property
    def digest(self) -> str:
        """Hex digest of `text`: of the lens itself, however its file is written."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def centred(self) -> bool:
        """Whether it looks the same from every azimuth: no surface is tilted, decentred or square."""
        return self.conditions.focal_length_mm is not None  # only a centred lens' is known

    @cached_property
    def glasses(self) -> tuple[str, ...]:
        """Names of the glasses in it, each once."""
        names = map(medium, json.loads(self.text)["surfaces"])
        return tuple(dict.fromkeys(name for name in names if name != "air"))


def available() -> list[str]:
    """Names of the shipped lenses."""
    return sorted(path.stem for path in LENSES.glob("*.json"))


def find_lens(name_or_path: str, configuration: int | None = None, sensor_mm: Size | None = None) -> LensFile:
    """The lens of a shipped name or of a .json, .zmx or .seq path, checked.

    Args:
        configuration: which of the file's (its zoom position), counted from 1; the first, with a note, if None.
        sensor_mm: width and height of the sensor instead of the file's.

    Raises:
        SpaceError: one line naming the file, the line or key, and what is valid.
    """
    deeplens_version()
    path = LENSES / f"{name_or_path}.json"
    if name_or_path not in available():
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise SpaceError(f"lens {name_or_path}: no such shipped lens or file; {nearest(name_or_path, available())}")
        if path.suffix.lower() not in _READERS:
            raise SpaceError(f"lens {name_or_path}: expected a file ending in {', '.join(_READERS)}, got {path.name}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpaceError(f"lens {name_or_path}: {error.strerror}") from None
    try:
        if sensor_mm is not None and not all(0 < side < math.inf for side in sensor_mm):
            raise BadLens(f"sensor_mm: width and height must be above 0, but got {sensor_mm[0]:g} x {sensor_mm[1]:g}")
        found = _READERS[path.suffix.lower()](content, configuration, sensor_mm)
    except BadLens as error:
        raise SpaceError(f"lens {name_or_path}: {error}") from None
    return replace(found, name=path.stem, path=path.resolve(), sha256=hashlib.sha256(content).hexdigest())


def _read_design(
    content: bytes, read: Callable[[list[str], int | None], Prescription], which: int | None, size: Size | None
) -> LensFile:
    design = read(decode(content), which)
    resolved = resolve(design, size)
    sensor, pixels = whole_pixels(resolved.conditions.sensor_mm)
    conditions = replace(resolved.conditions, sensor_mm=sensor)
    glasses = ["air", *(surface.glass for surface in resolved.surfaces)]
    surfaces = [surface_tree(surface, before) for surface, before in zip(resolved.surfaces, glasses, strict=False)]
    text = canonical({"info": design.title, "surfaces": surfaces}, conditions, pixels)
    return LensFile("", Path(), "", text, conditions, (*design.notes, *resolved.notes), design.configurations)


def _read_zemax(content: bytes, configuration: int | None, sensor_mm: Size | None) -> LensFile:
    return _read_design(content, read_zemax, configuration, sensor_mm)


def _read_codev(content: bytes, configuration: int | None, sensor_mm: Size | None) -> LensFile:
    return _read_design(content, read_codev, configuration, sensor_mm)


def _read_json(content: bytes, configuration: int | None, sensor_mm: Size | None) -> LensFile:
    tree = parse(content)
    lens = check(tree)
    check_configuration(configuration, 1)
    size, pixels = whole_pixels(sensor_mm or lens.size, None if sensor_mm else lens.sensor_res)
    conditions = _json_conditions(lens, tree, size)
    if sensor_mm is not None:
        conditions.sources["sensor"] = ASKED
    notes: tuple[str, ...] = ()
    if lens.sensor_size and lens.r_sensor and sensor_mm is None:
        half = math.hypot(*lens.sensor_size) / 2
        if abs(half - lens.r_sensor) > SAME_SENSOR * half:
            notes = (
                f"`sensor_size` is used, whose half-diagonal is {half:.4g} mm; `r_sensor` says {lens.r_sensor:.4g} mm",
            )
    return LensFile("", Path(), "", canonical(tree, conditions, pixels), conditions, notes)


def _json_conditions(lens: JsonLens, tree: dict[str, object], size: Size) -> Conditions:
    written = informed_wavelengths(tree)
    waves = tuple(sorted({*(written or lens.wvln_rgb)}, reverse=True))
    sources = {
        "wavelengths": "the file" if written else "`wvln_rgb`" if "wvln_rgb" in tree else "DeepLens' default",
        "depth": "`obj_depth`" if lens.obj_depth is not None else "default",
        "sensor": "`sensor_size`" if lens.sensor_size or not lens.r_sensor else "`r_sensor`",
        "aperture": "the stop's `r`",
    }
    depth = DEPTH_MM if lens.obj_depth is None else lens.obj_depth
    unknown = Conditions(waves, lens.primary_wvln, depth, size, None, None, None, sources, informed_sampling(tree))
    surfaces = centred_surfaces(lens)
    if surfaces is None:
        return unknown
    for i, surface in enumerate(surfaces):
        glass = find_glass(surface.glass)
        if not glass.covers(lens.primary_wvln):
            assert glass.valid_um is not None
            low, high = glass.valid_um
            raise BadLens(
                f"surfaces.{i}: glass {surface.glass} is known from {low:g} to {high:g} um, but `primary_wvln` is "
                f"{lens.primary_wvln:g}"
            )
    optics = Lens(surfaces, lens.primary_wvln)
    first = optics.first_order(math.inf)
    focal = first.focal_length
    if not math.isfinite(focal):
        raise BadLens("the lens has no focal length (afocal): it forms no image of a distant object")
    return replace(
        unknown,
        focal_length_mm=focal,
        f_number=f_number(optics, first, -far_depth(focal), surfaces[optics.stop].semi_diameter or math.nan),
        field_deg=math.degrees(math.atan(math.hypot(*size) / 2 / abs(focal))),
    )


_READERS: dict[str, Callable[[bytes, int | None, Size | None], LensFile]] = {
    ".json": _read_json,
    ".zmx": _read_zemax,
    ".seq": _read_codev,
}
