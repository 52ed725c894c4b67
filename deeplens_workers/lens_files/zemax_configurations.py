"""Zemax's configurations: lines after MNUM, each an operand with what it changes, the configuration and the value.

The values that the rest of the file has are those of one configuration; these lines replace them by another's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from deeplens_workers.lens_files.draft import check_configuration, first_of
from deeplens_workers.lens_files.text import Command
from deeplens_workers.lens_files.zemax_model import ZemaxFile, ZemaxSurface, light_cone

# A curvature written as such or as its radius is told by the value of the configuration that the file was saved in.
SAME = 1e-6


def configure(file: ZemaxFile, wanted: int | None) -> None:
    """Give the file the values of a configuration, the first if none is wanted.

    Raises:
        BadLens: there is no such configuration, or an operand lacks it.
    """
    draft = file.draft
    check_configuration(wanted, draft.configurations)
    draft.configuration = wanted or 1
    if wanted is None and draft.configurations > 1:
        draft.notes.append(first_of(draft.configurations))
    by_target: dict[tuple[str, str], dict[int, Command]] = {}
    for command in file.operands:
        if OPERANDS[command.key] is not None:
            number = command.whole(1)
            if not 1 <= number <= draft.configurations:
                raise command.error(f"there are {draft.configurations} configurations")
            by_target.setdefault((command.key, command.text(0)), {})[number] = command
    for commands in by_target.values():
        if draft.configuration not in commands:
            raise next(iter(commands.values())).error(f"it has no value for configuration {draft.configuration}")
        command = commands[draft.configuration]
        apply = OPERANDS[command.key]
        assert apply is not None
        apply(file, command, commands)
    if not file.saved:
        _check_solves(file, set(by_target))


def _check_solves(file: ZemaxFile, said: set[tuple[str, str]]) -> None:
    """Refuse values that are solved again in the wanted configuration, and that no operand gives for it."""
    for i, surface in enumerate(file.surfaces):
        for operand, command in surface.solves:
            if (operand, str(i)) not in said:
                raise command.error(
                    f"is solved again in configuration {file.draft.configuration}, which is not followed"
                )


def _surface(file: ZemaxFile, command: Command) -> ZemaxSurface:
    number = command.whole(0)
    if number >= len(file.surfaces):
        raise command.error(f"there is no surface {number}")
    return file.surfaces[number]


def _thickness(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    _surface(file, command).thickness = command.number(2)


def _curvature(file: ZemaxFile, command: Command, all_values: dict[int, Command]) -> None:
    surface = _surface(file, command)
    assert file.counted is not None
    saved = all_values.get(file.counted.whole(1, 1))
    if saved is None:
        raise command.error("whether it is a curvature or a radius is not known")
    value, known = command.number(2), saved.number(2)
    if math.isclose(known, surface.curvature, rel_tol=SAME):
        surface.curvature = value
    elif math.isclose(known * surface.curvature, 1.0, rel_tol=SAME):
        surface.curvature = 1 / value if value else 0.0
    else:
        raise command.error("whether it is a curvature or a radius is not known")


def _conic(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    _surface(file, command).conic = command.number(2)


def _semi_diameter(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    surface = _surface(file, command)
    surface.semi_diameter, surface.user_set = command.positive(2), True


def _aperture(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    if file.aperture is None or file.aperture.key == "FLOA":
        raise command.error("no aperture value for it to change")
    file.draft.aperture = light_cone(file.aperture, command, command.positive(2))


def _stop(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    wanted = _surface(file, Command(command.line, command.key, (str(int(command.positive(2))),)))
    for surface in file.surfaces:
        surface.is_stop = surface is wanted


def _wave(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    number = command.whole(0)
    if number not in file.numbered:
        raise command.error(f"there is no WAVM {number}")
    wave, weight = file.numbered[number]
    value = command.number(2)
    file.numbered[number] = (value, weight) if command.key == "WAVE" else (wave, value)


def _primary(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    file.draft.primary = int(command.positive(2))


def _field(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    values, number = (file.draft.field_x if command.key[0] == "X" else file.draft.field_y), command.whole(0)
    if not 1 <= number <= len(values):
        raise command.error(f"there is no field {number}")
    values[number - 1] = command.number(2)


def _ignored(file: ZemaxFile, command: Command, _: dict[int, Command]) -> None:
    if command.number(2):
        raise command.error("an ignored surface is not read")


# None: it does not change what is read.
OPERANDS: dict[str, Callable[[ZemaxFile, Command, dict[int, Command]], None] | None] = {
    "THIC": _thickness,
    "CRVT": _curvature,
    "CONN": _conic,
    "SDIA": _semi_diameter,
    "APER": _aperture,
    "STPS": _stop,
    "WAVE": _wave,
    "WLWT": _wave,
    "PRWV": _primary,
    "XFIE": _field,
    "YFIE": _field,
    "IGNR": _ignored,
    **dict.fromkeys(
        ("MOFF", "MCOM", "LTTL", "FLWT", "CWGT", "FVDX", "FVDY", "FVCX", "FVCY", "FVAN", "COTN", "GQPO", "HOLD"), None
    ),
}
OPERANDS_REFUSED = {
    "PRAM": "a surface's parameter that changes between configurations is not read",
    "GLSS": "a glass that changes between configurations is not read",
    "SATP": "an aperture that changes its kind between configurations is not read",
    "FLTP": "fields that change their kind between configurations are not read",
    **dict.fromkeys(("TEMP", "PRES"), "indices are for 20 degrees Celsius and 1 atm in all configurations"),
}
