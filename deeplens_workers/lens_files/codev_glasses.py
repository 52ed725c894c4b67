"""The glasses of a .seq file: of catalogues, by code, or private ones between PRV and END."""

from __future__ import annotations

from deeplens_workers.glasses import known_glasses
from deeplens_workers.lens_files.codev_model import CodevFile
from deeplens_workers.lens_files.codev_surfaces import MIRRORS
from deeplens_workers.lens_files.glass_names import check_abbe, codev_glass, fitted
from deeplens_workers.lens_files.prescription import BadLens
from deeplens_workers.lens_files.text import Command


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
    indices = command.numbers()
    if len(indices) != len(waves):
        raise command.error(f"{len(indices)} indices at {len(waves)} wavelengths")
    if min(indices) < 1:
        raise command.error("an index is at least 1")
    glass, note = fitted(word, waves, indices, file.draft.waves_um or waves)
    if note not in file.draft.notes:
        file.draft.notes.append(note)
    return glass
