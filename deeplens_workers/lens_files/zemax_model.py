"""What the lines of a .zmx file say, before it is known which configuration is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field

from deeplens_workers.lens_files.draft import Draft, DraftSurface
from deeplens_workers.lens_files.text import Command

# Zemax pads its lists to this many values.
PADDED = 12


@dataclass(eq=False)
class ZemaxSurface(DraftSurface):
    """What Zemax says besides: `semi_diameter` is in DIAM, `clear` of a CLAP aperture."""

    kind: str = "STANDARD"
    parameters: dict[int, tuple[float, Command]] = field(default_factory=dict)
    semi_diameter: float | None = None
    user_set: bool = False
    clear: float | None = None
    material: Command | None = None


@dataclass
class ZemaxFile:
    draft: Draft = field(default_factory=Draft)
    surfaces: list[ZemaxSurface] = field(default_factory=list)
    indented: bool = False
    aperture_line: int | None = None
    field_count: int | None = None
    wave_count: int | None = None
    numbered: dict[int, tuple[float, float]] = field(default_factory=dict)
    """WAVM: number -> wavelength and weight."""
    listed: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    catalogues: tuple[str, ...] = ()
    vignetting: list[Command] = field(default_factory=list)
    said: dict[tuple[int, str, tuple[str, ...]], Command] = field(default_factory=dict)
    """Lines by the surface they belong to, their keyword, and a number if there may be several."""
    counted: Command | None = None
    """MNUM."""
    operands: list[Command] = field(default_factory=list)

    def surface(self, command: Command) -> ZemaxSurface:
        if not self.surfaces:
            raise command.error("stands before the first SURF line")
        return self.surfaces[-1]
