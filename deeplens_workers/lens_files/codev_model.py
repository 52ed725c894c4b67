"""What the commands of a .seq file have built so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from deeplens_workers.lens_files.codev_text import surface_range
from deeplens_workers.lens_files.draft import Draft, DraftSurface
from deeplens_workers.lens_files.text import Command


@dataclass(eq=False)
class CodevSurface(DraftSurface):
    """`shape` is SPH, CON or ASP; `word` the glass as written."""

    shape: str = "SPH"
    word: Command | None = None
    label: str | None = None
    """Of its CIR."""


@dataclass
class CodevFile:
    """`image` and `current` are indices; `wanted` the zoom position asked for, counted from 1."""

    draft: Draft = field(default_factory=Draft)
    surfaces: list[CodevSurface] = field(default_factory=list)
    radius_mode: bool | None = None
    image: int | None = None
    current: int = 0
    fields_by_key: dict[str, list[float]] = field(default_factory=dict)
    private: dict[str, tuple[tuple[float, ...], Command]] = field(default_factory=dict)
    """By name: the wavelengths in um, and the line with the indices."""
    private_waves: tuple[float, ...] | None = None
    in_private: Command | None = None
    solve: tuple[int, int] | None = None
    """Line of PIM, and its surface."""
    wanted: int | None = None
    solved: list[tuple[str, int | None, Command]] = field(default_factory=list)
    """Solves and pickups: command, surface (None: it is not known which)."""
    zoomed: set[tuple[str, int | None]] = field(default_factory=set)
    """Commands and surfaces with a value of their own at each position."""

    @property
    def stop(self) -> int | None:
        return next((i for i, surface in enumerate(self.surfaces) if surface.is_stop), None)


def targets(file: CodevFile, command: Command) -> tuple[list[CodevSurface], Command]:
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
