"""CODE V's .seq files, strictly: a command is understood, known not to matter, or refused by line.

A file is a sequence of commands that build a lens; S, SO and SI add surfaces, later commands change them: `RDY S2 45`, or
without a qualifier the surface that was added last.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from deeplens_workers.codev_text import commands, surface_range
from deeplens_workers.glass_names import codev_glass, fitted
from deeplens_workers.lens_draft import INFINITE, MOST_SURFACES, Draft, DraftSurface
from deeplens_workers.lens_text import Command
from deeplens_workers.prescription import BadLens, FieldKind, Prescription
from deeplens_workers.zemax_configurations import check_configuration, first_of

UNITS_MM = {"M": 1.0, "MM": 1.0, "C": 10.0, "CM": 10.0, "I": 25.4, "IN": 25.4}
FIELD_KINDS: dict[str, FieldKind] = {
    "AN": "angle",
    "OB": "object height",
    "IM": "paraxial image height",
    "RI": "real image height",
}
# Aspheric terms: A is r^4; there is no I.
POWERS = dict(zip("ABCDEFGHJ", range(4, 22, 2), strict=True))
# About the program and the design's history, weights of fields, variables of optimisation (...C), tolerances, labels. What
# prepares a tilt (DAR, BEN, REV, DEC) does nothing, since tilts must be 0.
_HARMLESS = """
INI UID SLB GO WTF DER DOR CWL TOW WID DAR BEN REV DEC
CCY CCX THC GLC KC CUC AC BC CC DC EC FC GC HC JC XDC YDC ZDC ADC BDC CDC
DLF DLT DLN DLV DLA DLB DLC DLX DLY DLS DLR DSX DSY BTX BTY TIR CYD CMP IRR
"""
HARMLESS = frozenset(_HARMLESS.split())
# Solves: CODE V writes the solved value, and would solve again.
SOLVES = frozenset(["UMY", "HMY", "UCY", "HCY", "IMY", "ICY", "APL", "OAL", "EFL", "RED", "CNC", "SOL"])
NOT_CIRCULAR = "DeepLens has only full circular openings"
MIRRORS = ("REFL", "RFL", "MIRROR")
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


@dataclass
class _Surface(DraftSurface):
    """`shape` is SPH, CON or ASP; `word` the glass as written."""

    shape: str = "SPH"
    word: Command | None = None


@dataclass
class _File:
    draft: Draft = field(default_factory=Draft)
    surfaces: list[_Surface] = field(default_factory=list)
    radius_mode: bool | None = None
    image: int | None = None
    current: int = 0
    defocus: float = 0.0
    fields_by_key: dict[str, list[float]] = field(default_factory=dict)
    private: dict[str, Command] = field(default_factory=dict)
    private_waves: tuple[float, ...] | None = None
    in_private: Command | None = None
    solve: tuple[int, int] | None = None
    """Line of PIM, and its surface."""
    wanted: int | None = None

    @property
    def stop(self) -> int | None:
        return next((i for i, surface in enumerate(self.surfaces) if surface.is_stop), None)


def read_codev(lines: list[str], configuration: int | None = None) -> Prescription:
    """The design in the lines of a .seq file.

    Args:
        configuration: which zoom position, counted from 1; the first if None.

    Raises:
        BadLens: in one line, what is not understood and where.
    """
    file = _File(wanted=configuration)
    for command in commands(lines):
        _read(file, command)
    _check(file)
    draft = file.draft
    draft.surfaces = list(file.surfaces)
    image = file.surfaces[-1]
    draft.image_opening, draft.image_user_set = image.opening, image.opening is not None
    _take_fields(file)
    _take_glasses(file)
    if file.solve is not None:
        line, index = file.solve
        if index != len(file.surfaces) - 2:
            raise BadLens(f"line {line}: PIM: only the distance to the image can be solved for it")
        draft.focus_solve = (line, file.surfaces[index].thickness)
    file.surfaces[-2].thickness += image.thickness  # the image's own thickness is its defocus
    return draft.finish("DIM", "the image surface's CIR")


def _check(file: _File) -> None:
    kinds = (("SO", "object", 1), ("S", "lens", 3 if file.image is not None else 2))
    for key, meaning, needed in kinds:
        if len(file.surfaces) < needed:
            raise BadLens(f"a CODE V lens needs an `{key}` line ({meaning} surface), but has none")
    if file.image is None:
        raise BadLens("a CODE V lens needs an `SI` line (image surface), but has none")
    if file.in_private is not None:
        raise file.in_private.error("END is missing")
    check_configuration(file.wanted, file.draft.configurations)
    if file.wanted is None and file.draft.configurations > 1:
        file.draft.notes.append(first_of(file.draft.configurations))
    for surface in file.surfaces:
        if surface.shape == "SPH" and (surface.conic or any(surface.powers.values())):
            raise BadLens(f"line {surface.line}: it has K or aspheric terms, but neither CON nor ASP says so")
        if surface.shape == "CON" and any(surface.powers.values()):
            raise BadLens(f"line {surface.line}: it has aspheric terms, but CON says that it has none")


def _read(file: _File, command: Command) -> None:
    key = command.key
    if file.in_private is not None:
        _private_line(file, command)
    elif handler := _HANDLERS.get(key):
        handler(file, command)
    elif surface_range(key, 0, 0) is not None or key == "S":
        _surface(file, command)
    elif key in APERTURES and "EDG" in map(str.upper, command.args):
        return  # edges are mechanical: they do not clip
    elif key in REFUSED:
        raise command.error(REFUSED[key])
    elif key in ZERO:
        _targets(file, command)[1].zero(ZERO[key])
    elif key not in HARMLESS:
        raise command.error("unknown command: what it does to the lens is not known")


def _targets(file: _File, command: Command) -> tuple[list[_Surface], Command]:
    """The surfaces that a command is for, and the command without naming them."""
    if not file.surfaces:
        raise command.error("stands before the first surface")
    named = surface_range(command.args[0], len(file.surfaces) - 1, file.stop) if command.args else None
    if named is None:
        return [file.surfaces[file.current]], command
    if "I" in command.args[0].upper() and file.image is None:
        raise command.error("there is no image surface yet")
    if not named or named.start < 0 or named.stop > len(file.surfaces):
        raise command.error(f"there are surfaces 0 to {len(file.surfaces) - 1}")
    return file.surfaces[named.start : named.stop], replace(command, args=command.args[1:])


def _radius_mode(file: _File, command: Command) -> None:
    word = command.args[0].upper() if command.args else "Y"
    if word not in ("Y", "YES", "N", "NO"):
        raise command.error("expected Y for radii or N for curvatures")
    file.radius_mode = word[0] == "Y"


def _len(file: _File, command: Command) -> None:
    if file.surfaces:
        raise command.error("a second lens begins")


def _title(file: _File, command: Command) -> None:
    if not file.draft.title:
        file.draft.title = command.args[0].strip("'\" ")


def _unit(file: _File, command: Command) -> None:
    name = command.text(0).upper()
    if name not in UNITS_MM:
        raise command.error("unknown unit; valid: M (mm), C (cm), I (inches)")
    file.draft.unit_mm = UNITS_MM[name]


def _conditions(file: _File, command: Command) -> None:
    usual = {"TEM": 20.0, "PRE": 760.0}[command.key]
    if command.number() != usual:
        file.draft.notes.append(
            f"the file's {command.key} {command.args[0]} is not used: indices are for 20 degrees Celsius, 1 atm"
        )


def _aperture(file: _File, command: Command) -> None:
    value = command.positive()
    file.draft.aperture = {
        "EPD": ("entrance pupil", value),
        "FNO": ("working F-number", value),
        "NA": ("working F-number", 1 / (2 * value)),
        "NAO": ("object NA", value),
    }[command.key]  # type: ignore[assignment]


def _waves(file: _File, command: Command) -> None:
    file.draft.waves_um[:] = [round(value / 1000, 12) for value in command.numbers()]


def _weights(file: _File, command: Command) -> None:
    file.draft.weights[:] = command.numbers()


def _reference(file: _File, command: Command) -> None:
    file.draft.primary = command.whole()


def _field(file: _File, command: Command) -> None:
    values = file.fields_by_key.setdefault(command.key, [])
    if command.args and (match := FIELD.fullmatch(command.args[0])):
        if not 1 <= int(match[1]) <= len(values):
            raise command.error(f"there are {len(values)} fields")
        values[int(match[1]) - 1] = command.number(1)
    else:
        values[:] = command.numbers()


def _vignetting(file: _File, command: Command) -> None:
    named = bool(command.args and FIELD.fullmatch(command.args[0]))
    note = "the file's vignetting factors are not used: its openings clip the light"
    if any(replace(command, args=command.args[named:]).numbers()) and note not in file.draft.notes:
        file.draft.notes.append(note)


def _surface(file: _File, command: Command) -> None:
    """S adds a surface; SO, SI and S3 add theirs, or change it if it is there."""
    key, count = command.key, len(file.surfaces)
    indices = surface_range(key, count if file.image is None else file.image, None)
    index = count if key == "S" or indices is None else indices.start
    new = index == count
    if new and file.image is not None:
        raise command.error("a surface after the image")
    if not 0 <= index <= count or count > MOST_SURFACES:
        raise command.error(f"surfaces follow each other: expected S{count}, and at most {MOST_SURFACES}")
    if count == 0 and key not in ("SO", "S0"):
        raise command.error("a CODE V lens needs an `SO` line (object surface) first")
    if file.radius_mode is None:
        raise command.error("no RDM line before it: are its surfaces given by radius or by curvature?")
    if new:
        file.surfaces.append(_Surface(command.line))
    if key == "SI":
        file.image = index
    file.current = index
    surface = file.surfaces[index]
    surface.curvature = _curvature_of(command.number(0), file.radius_mode)
    surface.thickness = _distance(command, 1, index)
    surface.word = Command(command.line, command.key, command.args[2:3]) if len(command.args) > 2 else None
    if len(command.args) > 3:
        _check_mode(command, command.args[3])


def _curvature_of(value: float, radius: bool) -> float:
    if not radius:
        return value
    return 0.0 if value == 0 or abs(value) >= INFINITE else 1 / value


def _distance(command: Command, index: int, surface: int) -> float:
    value = command.number(index)
    if surface and abs(value) >= INFINITE:
        raise command.error("only the object may be infinitely far away")
    return value


def _check_mode(command: Command, word: str) -> None:
    if word.upper() not in ("REFR", "RFR"):
        raise command.error("a mirror: only refracting lenses are read" if word.upper() in MIRRORS else "unknown mode")


def _mode(file: _File, command: Command) -> None:
    _check_mode(command, _targets(file, command)[1].text(0))


def _shape(file: _File, command: Command) -> None:
    for surface in _targets(file, command)[0]:
        surface.shape = command.key


def _curvature(file: _File, command: Command) -> None:
    surfaces, values = _targets(file, command)
    if _solved(file, values):
        return
    for surface in surfaces:
        surface.curvature = _curvature_of(values.number(), command.key == "RDY")


def _thickness(file: _File, command: Command) -> None:
    surfaces, values = _targets(file, command)
    if values.args and values.args[0].upper() == "PIM":
        _focus(file, command)
    elif not _solved(file, values):
        for surface in surfaces:
            surface.thickness = _distance(values, 0, file.surfaces.index(surface))


def _solved(file: _File, command: Command) -> bool:
    """Whether the value is left to a solve: the one that is written stands."""
    if not command.args or command.args[0].upper() not in SOLVES:
        return False
    file.draft.notes.append(
        f"line {command.line}: {command.key} {command.args[0].upper()} is not solved: the written value is used"
    )
    return True


def _pickup(file: _File, command: Command) -> None:
    file.draft.notes.append(f"line {command.line}: {command.key} is not followed: the written values are used")


def _focus(file: _File, command: Command) -> None:
    surfaces, _ = _targets(file, command)
    file.solve = (command.line, file.surfaces.index(surfaces[0]))


def _conic(file: _File, command: Command) -> None:
    surfaces, values = _targets(file, command)
    for surface in surfaces:
        surface.conic = values.number()


def _term(file: _File, command: Command) -> None:
    surfaces, values = _targets(file, command)
    for surface in surfaces:
        surface.powers[POWERS[command.key]] = values.number()


def _glass(file: _File, command: Command) -> None:
    surfaces, values = _targets(file, command)
    for surface in surfaces:
        surface.word = replace(values, args=(values.text(0),))


def _circle(file: _File, command: Command) -> None:
    surfaces, values = _targets(file, command)
    kind = values.text(0).upper()
    if kind == "EDG":
        return
    if kind in ("OBS", "HOL"):
        raise command.error(f"an obscuration: {NOT_CIRCULAR}")
    for surface in surfaces:
        surface.opening = values.positive()


def _stop(file: _File, command: Command) -> None:
    surfaces, _ = _targets(file, command)
    if len(surfaces) != 1 or file.stop not in (None, file.surfaces.index(surfaces[0])):
        raise command.error("a lens has one stop")
    surfaces[0].is_stop = True


def _private(file: _File, command: Command) -> None:
    file.in_private, file.private_waves = command, None


def _private_line(file: _File, command: Command) -> None:
    if command.key == "END":
        file.in_private = None
    elif command.key == "PWL":
        file.private_waves = tuple(round(value / 1000, 12) for value in command.numbers())
        if not file.private_waves or min(file.private_waves) <= 0:
            raise command.error("expected wavelengths in nm")
    else:
        if file.private_waves is None:
            raise command.error("PWL, the wavelengths of its indices, is missing")
        if len(command.numbers()) != len(file.private_waves):
            raise command.error(f"{len(command.args)} indices at {len(file.private_waves)} wavelengths")
        if min(command.numbers()) < 1:
            raise command.error("an index is at least 1")
        file.private[command.key.strip("'\"")] = replace(command, args=(*map(str, file.private_waves), *command.args))


def _zoom(file: _File, command: Command) -> None:
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
        value = values[draft.configuration - 1]
        _read(file, Command(command.line, key, (*command.args[1:named], value)))


def _take_fields(file: _File) -> None:
    kinds = {key[1:] for key in file.fields_by_key}
    if len(kinds) > 1:
        raise BadLens(f"fields of more than one kind: {', '.join(sorted(file.fields_by_key))}")
    if kinds:
        (kind,) = kinds
        file.draft.field_kind = FIELD_KINDS[kind]
        file.draft.field_x = file.fields_by_key.get(f"X{kind}", [])
        file.draft.field_y = file.fields_by_key.get(f"Y{kind}", [])


def _take_glasses(file: _File) -> None:
    for surface in file.surfaces[:-1]:
        if surface.word is None:
            continue
        word = surface.word.text(0).strip("'\"")
        if word.upper() in MIRRORS:
            raise surface.word.error("a mirror: only refracting lenses are read")
        try:
            if (private := file.private.get(word.upper())) is not None:
                numbers = private.numbers()
                half = len(numbers) // 2
                surface.glass, note = fitted(word, numbers[:half], numbers[half:], file.draft.waves_um or [0.5876])
                if note not in file.draft.notes:
                    file.draft.notes.append(note)
            else:
                surface.glass = codev_glass(word)
        except BadLens as error:
            raise BadLens(f"line {surface.word.line}: {error}") from None


_HANDLERS: dict[str, Callable[[_File, Command], None]] = {
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
    **dict.fromkeys(("SPH", "CON", "ASP"), _shape),
    **dict.fromkeys(("CUY", "RDY"), _curvature),
    "THI": _thickness,
    "PIM": _focus,
    "PIK": _pickup,
    "K": _conic,
    **dict.fromkeys(POWERS, _term),
    "GLA": _glass,
    "RMD": _mode,
    "CIR": _circle,
    "STO": _stop,
    "PRV": _private,
    "ZOO": _zoom,
}
