"""What the lines of a .zmx file say, before it is known which configuration is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from deeplens_workers.lens_files.draft import Draft, DraftSurface
from deeplens_workers.lens_files.prescription import ApertureKind
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
    floating: bool = False
    solves: list[tuple[str, Command]] = field(default_factory=list)
    """What is solved or picked up, by the operand that sets it in a configuration; "" if none does."""
    material: Command | None = None


@dataclass
class ZemaxFile:
    draft: Draft = field(default_factory=Draft)
    surfaces: list[ZemaxSurface] = field(default_factory=list)
    indented: bool = False
    aperture: Command | None = None
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

    @property
    def saved(self) -> bool:
        """Whether the wanted configuration is the one that the file was saved in, whose values it has."""
        return self.counted is None or self.counted.whole(1, 1) == self.draft.configuration

    def surface(self, command: Command) -> ZemaxSurface:
        if not self.surfaces:
            raise command.error("stands before the first SURF line")
        return self.surfaces[-1]


def light_cone(definition: Command, said: Command, value: float) -> tuple[ApertureKind, float]:
    """What a value means as the file defines its aperture.

    Args:
        definition: ENPD, FNUM or OBNA.
        said: the line with the value.
    """
    flag = definition.whole(1, 0) if definition.key in ("FNUM", "OBNA") else 0
    match definition.key, flag:
        case "ENPD", _:
            return "entrance pupil", value
        case "FNUM", 0:
            return "image F-number", value
        case "FNUM", 1:
            return "working F-number", value
        case "OBNA", 0:
            return "object NA", value
        case "OBNA", 1:
            if value >= 90:
                raise said.error("a cone's half-angle is below 90 degrees")
            return "object NA", math.sin(math.radians(value))
    raise definition.error("its second number is 0 or 1")
