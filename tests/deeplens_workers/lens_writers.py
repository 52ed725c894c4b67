"""Lens files for tests, written from plain numbers: a singlet and its variations, as Zemax, CODE V or DeepLens have it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class S:
    """A surface: radius (0: flat) and thickness in mm, glass ("" is air), semi-diameter that clips, asphere from r^4 up."""

    radius: float
    thickness: float
    glass: str = ""
    opening: float | None = None
    stop: bool = False
    conic: float = 0.0
    terms: tuple[float, ...] = ()
    lines: str = ""
    """Further lines of this surface, separated by `;`."""


@dataclass(frozen=True)
class Design:
    """A lens in mm, degrees and nm."""

    surfaces: tuple[S, ...]
    pupil: float = 10.0
    object_mm: float = 1e13
    image_opening: float | None = 6.0
    fields: tuple[float, ...] = (0.0, 4.0, 6.0)
    waves_nm: tuple[float, ...] = (587.5618,)
    primary: int = 1
    unit_mm: float = 1.0
    head: dict[str, str] = field(default_factory=dict)
    """Header lines by keyword, instead of the usual; "" leaves one out."""
    tail: str = ""


SINGLET = Design((S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 47.0)))


def changed(index: int, design: Design = SINGLET, **values) -> Design:
    """The design with one surface changed."""
    surfaces = list(design.surfaces)
    surfaces[index] = replace(surfaces[index], **values)
    return replace(design, surfaces=tuple(surfaces))


def zemax(design: Design) -> str:
    """The design as a .zmx file."""
    unit = design.unit_mm
    head = {
        "VERS": "VERS 200101 1 1",
        "MODE": "MODE SEQ",
        "NAME": "NAME mine",
        "UNIT": f"UNIT {({1.0: 'MM', 10.0: 'CM', 25.4: 'IN', 1000.0: 'METER'})[unit]} X W X CM MR CPMM",
        "ENPD": f"ENPD {design.pupil / unit!r}",
        "GCAT": "GCAT SCHOTT",
        "FTYP": f"FTYP 0 0 {len(design.fields)} {len(design.waves_nm)} 0 0 0",
        "XFLN": f"XFLN {' '.join('0' for _ in design.fields)}",
        "YFLN": f"YFLN {' '.join(map(str, design.fields))}",
        "WAVM": "\n".join(f"WAVM {i} {round(wave / 1000, 12)!r} 1" for i, wave in enumerate(design.waves_nm, 1)),
        "PWAV": f"PWAV {design.primary}",
        **design.head,
    }
    text = [line for line in head.values() if line]
    distance = "INFINITY" if design.object_mm >= 1e10 else repr(design.object_mm / unit)
    text += ["SURF 0", "  TYPE STANDARD", "  CURV 0.0", f"  DISZ {distance}"]
    for number, one in enumerate(design.surfaces, 1):
        text += [f"SURF {number}"] + ["  STOP"] * one.stop
        text += [f"  TYPE {'EVENASPH' if one.terms else 'STANDARD'}"]
        text += [f'  CURV {unit / one.radius if one.radius else 0.0!r} 0 0 0 0 ""', f"  DISZ {one.thickness / unit!r}"]
        text += [f"  GLAS {one.glass} 0 0 1.5 40 0 0 0 0 0 0"] if one.glass else []
        text += [f"  CONI {one.conic!r}"] if one.conic else []
        text += [f"  PARM {i} {term * unit ** (2 * i - 1)!r}" for i, term in enumerate(one.terms, 2)]
        text += [f'  DIAM {(one.opening or 3.0) / unit!r} {int(one.opening is not None)} 0 0 1 ""']
        text += ["  FLAP 0 0 0"] * (one.opening is not None)
        text += [f"  {line}" for line in one.lines.split(";") if line]
    text += [f"SURF {len(design.surfaces) + 1}", "  TYPE STANDARD", "  CURV 0.0", "  DISZ 0"]
    text += [] if design.image_opening is None else [f'  DIAM {design.image_opening / unit!r} 1 0 0 1 ""']
    return "\n".join([*text, *design.tail.split(";")]) + "\n"


def codev(design: Design) -> str:
    """The design as a .seq file."""
    unit = design.unit_mm
    head = {
        "RDM": 'RDM;LEN "VERSION: 2023.03"',
        "TITLE": "TITLE 'mine'",
        "EPD": f"EPD {design.pupil / unit!r}",
        "DIM": f"DIM {({1.0: 'M', 10.0: 'C', 25.4: 'I'})[unit]}",
        "WL": f"WL {' '.join(map(repr, design.waves_nm))}",
        "REF": f"REF {design.primary}",
        "WTW": f"WTW {' '.join('1' for _ in design.waves_nm)}",
        "YAN": f"YAN {' '.join(map(str, design.fields))}",
        **design.head,
    }
    text = [line for line in head.values() if line]
    text += [f"SO 0.0 {1e13 if design.object_mm >= 1e10 else design.object_mm / unit!r}"]
    for one in design.surfaces:
        text += [f"S {one.radius / unit!r} {one.thickness / unit!r} {one.glass}"] + ["  STO"] * one.stop
        text += [f"  CIR {one.opening / unit!r}"] if one.opening is not None else []
        text += [f"  {'ASP' if one.terms else 'CON'}", f"  K {one.conic!r}"] if one.conic or one.terms else []
        text += [
            f"  {letter} {term * unit ** (2 * i - 1)!r}"
            for i, (letter, term) in enumerate(zip("ABCDEFGHJ", one.terms, strict=False), 2)
        ]
        text += [f"  {line}" for line in one.lines.split(";") if line]
    text += ["SI 0.0 0.0"] + ([] if design.image_opening is None else [f"  CIR {design.image_opening / unit!r}"])
    return "\n".join([*text, *design.tail.split("|"), "GO"]) + "\n"


def write(folder: Path, name: str, text: str | bytes) -> str:
    """A file's path, written."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)
