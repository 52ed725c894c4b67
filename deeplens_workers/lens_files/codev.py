"""CODE V's .seq files, strictly: a command is understood, known not to matter, or refused by line.

A file is a sequence of commands that build a lens; S, SO and SI add surfaces, later commands change them: `RDY S2 45`, or
without a qualifier the surface that was added last.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from deeplens_workers.lens_files.codev_glasses import begin_private, private_line, take_glasses
from deeplens_workers.lens_files.codev_model import CodevFile, targets
from deeplens_workers.lens_files.codev_surfaces import SURFACE_HANDLERS, add_surface, one_key
from deeplens_workers.lens_files.codev_text import commands, surface_range
from deeplens_workers.lens_files.draft import NOT_CIRCULAR, check_configuration, first_of
from deeplens_workers.lens_files.prescription import BadLens, FieldKind, Prescription
from deeplens_workers.lens_files.text import Command

UNITS_MM = {"M": 1.0, "MM": 1.0, "C": 10.0, "CM": 10.0, "I": 25.4, "IN": 25.4}
FIELD_KINDS: dict[str, FieldKind] = {
    "AN": "angle",
    "OB": "object height",
    "IM": "paraxial image height",
    "RI": "real image height",
}
# About the program and the design's history, weights of fields, variables of optimisation (...C), tolerances, labels. What
# prepares a tilt (DAR, BEN, REV, DEC) does nothing, since tilts must be 0.
_HARMLESS = """
INI UID SLB GO WTF DER DOR CWL TOW WID DAR BEN REV DEC
CLS CUM THM CCF HCC IC MLT COA TRX TRY TRR
CCY CCX THC GLC KC CUC AC BC CC DC EC FC GC HC JC XDC YDC ZDC ADC BDC CDC
DLF DLT DLN DLV DLA DLB DLC DLX DLY DLS DLR DSX DSY BTX BTY TIR CYD CMP IRR
"""
HARMLESS = frozenset(_HARMLESS.split())
FIELD = re.compile(r"F(\d{1,3})", re.IGNORECASE)
QUALIFIER = re.compile(r"[SFW](\d{1,4}|O|I|S)(\.\.S?(\d{1,4}|I))?", re.IGNORECASE)
TILT = "a tilt or decentre: only centred lenses are read"
APERTURES = ("REX", "REY", "ELX", "ELY", "ADX", "ADY", "ARO")
REFUSED = {
    **dict.fromkeys(("REX", "REY"), f"a rectangular aperture: {NOT_CIRCULAR}"),
    **dict.fromkeys(("ELX", "ELY"), f"an elliptical aperture: {NOT_CIRCULAR}"),
    **dict.fromkeys(("XTO", "YTO", "CYL", "AAS"), "the surface is not rotationally symmetric"),
    **dict.fromkeys(
        ("DIF", "GRT", "GRO", "GRX", "GRY", "GRZ", "HOE", "HOR", "HWL", "HCO"), "a diffractive surface is not read"
    ),
    **dict.fromkeys(("NSS", "NSE"), "non-sequential surfaces are not read"),
    "SPS": "of special surfaces none is read",
    "GRI": "a gradient index is not read",
    "AFO": "an afocal lens forms no image",
    "RET": TILT,
    "GLB": TILT,
}
ZERO = {
    **dict.fromkeys(("XDE", "YDE", "ZDE", "ADE", "BDE", "CDE"), TILT),
    **dict.fromkeys(("ADX", "ADY"), "a decentred aperture: DeepLens' openings are centred"),
    "CUF": "CUF is not read",
}


def read_codev(lines: list[str], configuration: int | None = None) -> Prescription:
    """The design in the lines of a .seq file.

    Args:
        configuration: which zoom position, counted from 1; the first if None.

    Raises:
        BadLens: in one line, what is not understood and where.
    """
    file = CodevFile(wanted=configuration)
    for command in commands(lines):
        _read(file, command)
    _check(file)
    draft = file.draft
    draft.surfaces = list(file.surfaces)
    image = file.surfaces[-1]
    draft.image_opening, draft.image_user_set = image.opening, image.opening is not None
    _take_fields(file)
    take_glasses(file)
    if file.solve is not None:
        line, index = file.solve
        if index != len(file.surfaces) - 2:
            raise BadLens(f"line {line}: PIM: only the distance to the image can be solved for it")
        draft.focus_solve = (line, file.surfaces[index].thickness)
    file.surfaces[-2].thickness += image.thickness  # the image's own thickness is its defocus
    return draft.finish("DIM", "the image surface's CIR")


def _check(file: CodevFile) -> None:
    if file.in_private is not None:
        raise file.in_private.error("END is missing")
    kinds = (("SO", "object", 1), ("S", "lens", 3 if file.image is not None else 2))
    for key, meaning, needed in kinds:
        if len(file.surfaces) < needed:
            raise BadLens(f"a CODE V lens needs an `{key}` line ({meaning} surface), but has none")
    if file.image is None:
        raise BadLens("a CODE V lens needs an `SI` line (image surface), but has none")
    check_configuration(file.wanted, file.draft.configurations)
    if file.wanted is None and file.draft.configurations > 1:
        file.draft.notes.append(first_of(file.draft.configurations))
    for key, index, command in file.solved:
        if file.draft.configuration > 1 and (key, index) not in file.zoomed:
            raise command.error(f"is solved again in position {file.draft.configuration}, which is not followed")
    for surface in file.surfaces:
        if surface.shape == "SPH" and (surface.conic or any(surface.powers.values())):
            raise BadLens(f"line {surface.line}: it has K or aspheric terms, but neither CON nor ASP says so")
        if surface.shape == "CON" and any(surface.powers.values()):
            raise BadLens(f"line {surface.line}: it has aspheric terms, but CON says that it has none")


def _read(file: CodevFile, command: Command) -> None:
    key = command.key
    if file.in_private is not None:
        private_line(file, command)
    elif handler := _HANDLERS.get(key):
        handler(file, command)
    elif surface_range(key, 0, 0) is not None or key == "S":
        add_surface(file, command)
    elif key in APERTURES and "EDG" in map(str.upper, command.args):
        return  # edges are mechanical: they do not clip
    elif key in REFUSED:
        raise command.error(REFUSED[key])
    elif key in ZERO:
        targets(file, command)[1].zero(ZERO[key])
    elif key not in HARMLESS:
        raise command.error("unknown command: what it does to the lens is not known")


def _radius_mode(file: CodevFile, command: Command) -> None:
    word = command.args[0].upper() if command.args else "Y"
    if word not in ("Y", "YES", "N", "NO"):
        raise command.error("expected Y for radii or N for curvatures")
    file.radius_mode = word[0] == "Y"


def _len(file: CodevFile, command: Command) -> None:
    if file.surfaces:
        raise command.error("a second lens begins")


def _title(file: CodevFile, command: Command) -> None:
    if not file.draft.title:
        file.draft.title = command.args[0].strip("'\" ")


def _unit(file: CodevFile, command: Command) -> None:
    name = command.text(0).upper()
    if name not in UNITS_MM:
        raise command.error("unknown unit; valid: M (mm), C (cm), I (inches)")
    file.draft.unit_mm = UNITS_MM[name]


def _conditions(file: CodevFile, command: Command) -> None:
    usual = {"TEM": 20.0, "PRE": 760.0}[command.key]
    if command.number() != usual:
        file.draft.notes.append(
            f"the file's {command.key} {command.args[0]} is not used: indices are for 20 degrees Celsius, 1 atm"
        )


def _aperture(file: CodevFile, command: Command) -> None:
    value = command.positive()
    file.draft.aperture = {
        "EPD": ("entrance pupil", value),
        "FNO": ("numerical F-number", value),
        "NA": ("numerical F-number", 1 / (2 * value)),
        "NAO": ("object NA", value),
    }[command.key]  # type: ignore[assignment]


def _waves(file: CodevFile, command: Command) -> None:
    file.draft.waves_um[:] = [round(value / 1000, 12) for value in command.numbers()]


def _weights(file: CodevFile, command: Command) -> None:
    file.draft.weights[:] = command.numbers()


def _reference(file: CodevFile, command: Command) -> None:
    file.draft.primary = command.whole()


def _field(file: CodevFile, command: Command) -> None:
    values = file.fields_by_key.setdefault(command.key, [])
    if command.args and (match := FIELD.fullmatch(command.args[0])):
        if not 1 <= int(match[1]) <= len(values):
            raise command.error(f"there are {len(values)} fields")
        values[int(match[1]) - 1] = command.number(1)
    else:
        values[:] = command.numbers()


def _vignetting(file: CodevFile, command: Command) -> None:
    named = bool(command.args and FIELD.fullmatch(command.args[0]))
    note = "the file's vignetting factors are not used: its openings clip the light"
    if any(replace(command, args=command.args[named:]).numbers()) and note not in file.draft.notes:
        file.draft.notes.append(note)


def _zoom(file: CodevFile, command: Command) -> None:
    """`ZOO 3` has three positions; `ZOO THI S2 1 2 3` gives a value for each."""
    draft = file.draft
    if command.args and command.args[0].isdigit():
        draft.configurations = max(command.whole(), 1)
        draft.configuration = file.wanted or 1
        return
    key, count = command.text(0).upper()[:3], draft.configurations
    named = 2 if len(command.args) > 1 and QUALIFIER.fullmatch(command.args[1]) else 1
    if key in HARMLESS or key == "TIT":
        return
    values = command.args[named:]
    if len(values) != count:
        raise command.error(f"{len(values)} values for {count} positions")
    if draft.configuration <= count:
        one = Command(command.line, key, (*command.args[1:named], values[draft.configuration - 1]))
        solves = len(file.solved)
        _read(file, one)
        if key in SURFACE_HANDLERS and len(file.solved) == solves:
            surfaces, _ = targets(file, one)
            file.zoomed |= {(one_key(key), file.surfaces.index(surface)) for surface in surfaces}


def _take_fields(file: CodevFile) -> None:
    kinds = {key[1:] for key in file.fields_by_key}
    if len(kinds) > 1:
        raise BadLens(f"fields of more than one kind: {', '.join(sorted(file.fields_by_key))}")
    if kinds:
        (kind,) = kinds
        file.draft.field_kind = FIELD_KINDS[kind]
        file.draft.field_x = file.fields_by_key.get(f"X{kind}", [])
        file.draft.field_y = file.fields_by_key.get(f"Y{kind}", [])


_HANDLERS: dict[str, Callable[[CodevFile, Command], None]] = {
    "RDM": _radius_mode,
    "LEN": _len,
    "TIT": _title,
    "DIM": _unit,
    **dict.fromkeys(("TEM", "PRE"), _conditions),
    **dict.fromkeys(("EPD", "FNO", "NA", "NAO"), _aperture),
    "WL": _waves,
    "WTW": _weights,
    "REF": _reference,
    **dict.fromkeys([axis + kind for axis in "XY" for kind in FIELD_KINDS], _field),
    **dict.fromkeys(("VUX", "VUY", "VLX", "VLY"), _vignetting),
    **SURFACE_HANDLERS,
    "PRV": begin_private,
    "ZOO": _zoom,
}
