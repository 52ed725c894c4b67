"""CODE V's commands for surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deeplens_workers.lens_files.codev_model import CodevFile, CodevSurface, targets
from deeplens_workers.lens_files.codev_text import surface_range
from deeplens_workers.lens_files.draft import INFINITE, MOST_SURFACES, NOT_CIRCULAR
from deeplens_workers.lens_files.text import Command

# Aspheric terms: A is r^4; there is no I.
POWERS = dict(zip("ABCDEFGHJ", range(4, 22, 2), strict=True))
# Solves: CODE V writes the solved value, and would solve again.
SOLVES = frozenset(["UMY", "HMY", "UCY", "HCY", "IMY", "ICY", "APL", "OAL", "EFL", "RED", "CNC", "SOL"])
MIRRORS = ("REFL", "RFL", "MIRROR")


def add_surface(file: CodevFile, command: Command) -> None:
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
        raise command.error(
            "no RDM line before it: are its surfaces given by radius or by curvature? (CODE V itself takes curvatures)"
        )
    if new:
        file.surfaces.append(CodevSurface(command.line))
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


def _mode(file: CodevFile, command: Command) -> None:
    _check_mode(command, targets(file, command)[1].text(0))


def _shape(file: CodevFile, command: Command) -> None:
    for surface in targets(file, command)[0]:
        surface.shape = command.key


def _curvature(file: CodevFile, command: Command) -> None:
    surfaces, values = targets(file, command)
    if _solved(file, surfaces, values, all(surface.curvature for surface in surfaces)):
        return
    for surface in surfaces:
        surface.curvature = _curvature_of(values.number(), command.key == "RDY")


def _thickness(file: CodevFile, command: Command) -> None:
    surfaces, values = targets(file, command)
    if values.args and values.args[0].upper() == "PIM":
        _focus(file, command)
    elif not _solved(file, surfaces, values, all(surface.thickness for surface in surfaces)):
        for surface in surfaces:
            surface.thickness = _distance(values, 0, file.surfaces.index(surface))


def _solved(file: CodevFile, surfaces: list[CodevSurface], command: Command, written: bool) -> bool:
    """Whether the value is left to a solve: the one that is written stands."""
    if not command.args or command.args[0].upper() not in SOLVES:
        return False
    if not written:
        raise command.error("solves are not followed, and no value is written")
    file.solved += [(one_key(command.key), file.surfaces.index(surface), command) for surface in surfaces]
    file.draft.notes.append(
        f"line {command.line}: {command.key} {command.args[0].upper()} is not solved: the written value is used"
    )
    return True


def one_key(key: str) -> str:
    """CUY and RDY set the same."""
    return "RDY" if key == "CUY" else key


def _pickup(file: CodevFile, command: Command) -> None:
    key = one_key(command.args[0].upper()[:3]) if command.args else ""
    named = surface_range(command.args[1], len(file.surfaces) - 1, file.stop) if len(command.args) > 1 else None
    file.solved += [(key, i, command) for i in named] if named else [(key, None, command)]
    file.draft.notes.append(f"line {command.line}: {command.key} is not followed: the written values are used")


def _focus(file: CodevFile, command: Command) -> None:
    surfaces, _ = targets(file, command)
    file.solve = (command.line, file.surfaces.index(surfaces[0]))


def _conic(file: CodevFile, command: Command) -> None:
    surfaces, values = targets(file, command)
    for surface in surfaces:
        surface.conic = values.number()


def _term(file: CodevFile, command: Command) -> None:
    surfaces, values = targets(file, command)
    for surface in surfaces:
        surface.powers[POWERS[command.key]] = values.number()


def _glass(file: CodevFile, command: Command) -> None:
    surfaces, values = targets(file, command)
    for surface in surfaces:
        surface.word = replace(values, args=(values.text(0),))


def _circle(file: CodevFile, command: Command) -> None:
    surfaces, values = targets(file, command)
    kinds = [word.upper() for word in values.args[:-1]]
    label = None
    if "L" in kinds:  # L'A' is two words
        at = kinds.index("L")
        label = "".join(values.args[at + 1 : at + 2]).strip("'\"").upper()
        del kinds[at : at + 2]
    if "OBS" in kinds or "HOL" in kinds:
        raise command.error(f"an obscuration: {NOT_CIRCULAR}")
    if kinds not in ([], ["CLR"], ["EDG"]):
        raise command.error("expected CLR, EDG, a label or a number")
    value = values.positive(max(len(values.args) - 1, 0))
    if kinds == ["EDG"]:
        return  # mechanical: it does not clip
    for surface in surfaces:
        if surface.opening is not None and surface.label != label:
            raise command.error("a second aperture of the surface, by another label")
        surface.opening, surface.label = value, label


def _clear_apertures(file: CodevFile, command: Command) -> None:
    """CA: whether the apertures that the file has are used."""
    word = command.args[0].upper() if command.args else "YES"
    if word in ("N", "NO"):
        raise command.error("the file's apertures are not used then: delete them, or this line")
    if word not in ("Y", "YES", "APE"):
        raise command.error("expected YES or APE")


def _stop(file: CodevFile, command: Command) -> None:
    surfaces, _ = targets(file, command)
    if len(surfaces) != 1 or file.stop not in (None, file.surfaces.index(surfaces[0])):
        raise command.error("a lens has one stop")
    surfaces[0].is_stop = True


SURFACE_HANDLERS: dict[str, Callable[[CodevFile, Command], None]] = {
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
    "CA": _clear_apertures,
    "STO": _stop,
}
