"""The glasses of a .seq file: of catalogues, by code, or private ones between PRV and END."""

from __future__ import annotations

from dataclasses import replace

from deeplens_workers.glasses import Glass, known_glasses
from deeplens_workers.lens_files.codev_model import CodevFile
from deeplens_workers.lens_files.codev_surfaces import MIRRORS
from deeplens_workers.lens_files.glass_names import check_abbe, codev_glass, fitted
from deeplens_workers.lens_files.prescription import BadLens
from deeplens_workers.lens_files.text import Command

# n^2 = A0 + A1 w^2 + A2 w^-2 + A3 w^-4 + A4 w^-6 + A5 w^-8, w in um.
POWER_SERIES = "LAU"
COEFFICIENTS = 6


def begin_private(file: CodevFile, command: Command) -> None:
    """PRV."""
    file.in_private, file.private_waves = command, None


def private_line(file: CodevFile, command: Command) -> None:
    """A line between PRV and END: wavelengths, or a glass with its indices at them."""
    if command.key == "END":
        file.in_private = None
    elif command.key == "PWL":
        file.private_waves = tuple(round(value / 1000, 12) for value in command.numbers())
        if not file.private_waves or min(file.private_waves) <= 0:
            raise command.error("expected wavelengths in nm")
    elif command.args and command.args[0].isalpha():
        if command.args[0].upper() != POWER_SERIES:
            raise command.error(f"of formulas only {POWER_SERIES} (Schott's power series) is read")
        file.private[command.key.strip("'\"")] = ((), command)
    elif file.private_waves is None:
        raise command.error("PWL, the wavelengths of its indices, is missing")
    else:
        file.private[command.key.strip("'\"")] = (file.private_waves, command)


def take_glasses(file: CodevFile) -> None:
    """Give every surface its glass.

    Raises:
        BadLens: it is not known.
    """
    for surface in file.surfaces[:-1]:
        if surface.word is None:
            continue
        word = surface.word.text(0).strip("'\"")
        if word.upper() in MIRRORS:
            raise surface.word.error("a mirror: only refracting lenses are read")
        try:
            if word.upper() in file.private:
                surface.glass = _private(file, word)
                continue
            surface.glass, note = codev_glass(word)
            if note and note not in file.draft.notes:
                file.draft.notes.append(note)
            if surface.glass not in known_glasses():
                check_abbe(word, file.draft.waves_um)
        except BadLens as error:
            raise BadLens(f"line {surface.word.line}: {error}") from None


def _private(file: CodevFile, word: str) -> str:
    waves, command = file.private[word.upper()]
    if waves:
        indices = command.numbers()
    else:
        waves = tuple(sorted(set(file.draft.waves_um)))
        indices = _power_series(command, waves)
    if len(indices) != len(waves):
        raise command.error(f"{len(indices)} indices at {len(waves)} wavelengths")
    if min(indices) < 1:
        raise command.error("an index is at least 1")
    glass, note = fitted(word, waves, indices, file.draft.waves_um or waves)
    if note not in file.draft.notes:
        file.draft.notes.append(note)
    return glass


def _power_series(command: Command, waves_um: tuple[float, ...]) -> tuple[float, ...]:
    """Indices at the wavelengths."""
    coefficients = replace(command, args=command.args[1:]).numbers()
    if not 0 < len(coefficients) <= COEFFICIENTS:
        raise command.error(f"expected up to {COEFFICIENTS} coefficients")
    if not waves_um:
        raise BadLens("the file has no wavelength")
    coefficients = (*coefficients, *[0.0] * (COEFFICIENTS - len(coefficients)))
    found = tuple(Glass("", "schott", coefficients).index(wave) for wave in waves_um)
    if not min(found) >= 1:
        raise command.error("an index is at least 1")
    return found
