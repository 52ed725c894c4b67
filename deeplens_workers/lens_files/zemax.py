"""Zemax's .zmx files, strictly: a keyword is understood, known not to matter, or refused by line.

A line is a keyword with its values; lines under SURF belong to that surface. Solves (after a value on its line, or as MAZH,
PZUP, ...) are not solved again: Zemax writes the solved value, of the configuration that the file was saved in.
"""

from __future__ import annotations

from collections.abc import Callable

from deeplens_workers.glasses import is_glass, known_glasses
from deeplens_workers.lens_files.draft import INFINITE, MOST_SURFACES, NOT_CIRCULAR
from deeplens_workers.lens_files.glass_names import MODEL_GLASS, check_abbe, zemax_glass
from deeplens_workers.lens_files.prescription import BadLens, FieldKind, Prescription
from deeplens_workers.lens_files.text import Command
from deeplens_workers.lens_files.zemax_configurations import OPERANDS, OPERANDS_REFUSED, configure
from deeplens_workers.lens_files.zemax_model import PADDED, ZemaxFile, ZemaxSurface, light_cone

UNITS_MM = {"MM": 1.0, "CM": 10.0, "IN": 25.4, "INCH": 25.4, "M": 1000.0, "METER": 1000.0}
FIELD_KINDS: dict[int, FieldKind] = {
    0: "angle",
    1: "object height",
    2: "paraxial image height",
    3: "real image height",
}
# What DIAM's second number says of the semi-diameter: whether a person chose it.
CHOSEN = {0: False, 1: True, 2: False, 3: False}
# The parameter of a coordinate break that says what is done first, which does not matter where nothing is done.
ORDER = 6
# About the program, environment, ray aiming, drawing, coatings, tolerances; mechanical sizes and floating openings; solves
# whose value is written.
_HARMLESS = """
VERS AUTH DBDT NOTE PFIL LANG GFAC RAIM PUSH SDMA OMMA ROPD HYPR PICB FWGN FWGT POLS GLRS GSTD NSCD COFN BLNK MOFF
TOL TOLE TCED TCMM
COMM FIMP HIDE MIRR SLAB POPS MEMA COAT GLCZ VDSZ VPAR VCON LUID SSID IWDP FCOM
"""
# Values that Zemax computes: each with the operand that sets the same in a configuration.
SOLVES = {
    **dict.fromkeys(("CPUP", "MAZV", "CHNT"), "CRVT"),
    **dict.fromkeys(("TPUP", "PZUP", "MAZH", "CHZH", "EDGE", "TCOM"), "THIC"),
    "PKUP": "CONN",
    "PPAR": "",
}
PICKED_UP = 2  # of DIAM and GLAS
HARMLESS = frozenset(_HARMLESS.split())
REFUSED = {
    "OBSC": f"an obscuration: {NOT_CIRCULAR}",
    "SQAP": f"a rectangular aperture: {NOT_CIRCULAR}",
    "SQOB": f"a rectangular obscuration: {NOT_CIRCULAR}",
    "ELAP": f"an elliptical aperture: {NOT_CIRCULAR}",
    "ELOB": f"an elliptical obscuration: {NOT_CIRCULAR}",
    "SPID": f"a spider: {NOT_CIRCULAR}",
    "USAP": f"a user aperture: {NOT_CIRCULAR}",
    "UDAD": f"a user aperture: {NOT_CIRCULAR}",
    "AFOC": "an afocal lens forms no image",
    "NSCS": "non-sequential components are not read",
}
# Said once for the lens or a surface, and these once for each number.
REPEATED = ("PARM", "WAVM", "SURF")
ZERO = {
    "OBDC": ("a decentred aperture: DeepLens' openings are centred", 0),
    "SCBD": ("a tilt or decentre: only centred lenses are read", 3),
    "IGNR": ("an ignored surface: delete it from the file", 0),
    "XDAT": ("extra data of a surface: only STANDARD and EVENASPH surfaces are read", 1),
}


def read_zemax(lines: list[str], configuration: int | None = None) -> Prescription:
    """The design in the lines of a .zmx file.

    Args:
        configuration: which one, counted from 1; the first if None.

    Raises:
        BadLens: in one line, what is not understood and where.
    """
    file = ZemaxFile()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words:
            _read(file, Command(number, words[0].upper(), tuple(words[1:]), line[0].isspace()))
    if len(file.surfaces) < 3:
        raise BadLens(f"a Zemax lens needs object, lens and image `SURF` blocks, but got {len(file.surfaces)} of them")
    configure(file, configuration)
    _list_waves(file)
    _list_fields(file)
    for i, surface in enumerate(file.surfaces):
        _complete(file, i, surface)
    draft = file.draft
    draft.surfaces = list(file.surfaces)
    image = file.surfaces[-1]
    draft.image_user_set = image.clear is not None or image.user_set
    draft.image_opening = image.clear or (image.semi_diameter if image.user_set or file.saved else None)
    if file.aperture is not None and file.aperture.key == "FLOA":
        _float(file, file.aperture)
    return draft.finish("UNIT", "the image surface's DIAM")


def _read(file: ZemaxFile, command: Command) -> None:
    file.indented = file.indented or (command.indented and command.key in _HANDLERS)
    if file.counted is not None and command.key in OPERANDS:
        file.operands.append(command)
    elif handler := _HANDLERS.get(command.key):
        _once(file, command)
        handler(file, command)
    elif command.key in SOLVES:
        file.surface(command).solves.append((SOLVES[command.key], command))
    elif command.key in REFUSED or (file.counted is not None and command.key in OPERANDS_REFUSED):
        raise command.error({**REFUSED, **OPERANDS_REFUSED}[command.key])
    elif command.key in ZERO:
        why, start = ZERO[command.key]
        command.zero(why, start)
    elif command.key not in HARMLESS and not _is_merit(file, command):
        raise command.error("unknown keyword: what it does to the lens is not known")


def _once(file: ZemaxFile, command: Command) -> None:
    """Refuse what was said before for the same surface, and otherwise; catalogues add up."""
    if command.key == "GCAT":
        return
    number = command.args[:1] if command.key in REPEATED else ()
    place = (len(file.surfaces), command.key, number)
    earlier = file.said.setdefault(place, command)
    if earlier.args != command.args:
        raise command.error(f"said before, in line {earlier.line}, and otherwise")


def _is_merit(file: ZemaxFile, command: Command) -> bool:
    """Lines of the merit function stand between surfaces and configurations: four letters and eight numbers or more."""
    if not (file.indented and file.surfaces and file.counted is None) or command.indented or len(command.args) < 8:
        return False
    try:
        command.numbers()
    except BadLens:
        return False
    return len(command.key) == 4 and command.key.isalnum()


def _list_waves(file: ZemaxFile) -> None:
    """The wavelengths in use: Zemax pads its lists, and FTYP counts what is used."""
    waves, weights = file.listed
    if file.numbered:
        if waves:
            raise BadLens("the file has its wavelengths twice, as WAVM and as a list")
        if sorted(file.numbered) != list(range(1, len(file.numbered) + 1)):
            raise BadLens(f"WAVM: wavelengths are numbered from 1 without gaps, but got {sorted(file.numbered)}")
        pairs = [file.numbered[number] for number in sorted(file.numbered)]
        waves, weights = [wave for wave, _ in pairs], [weight for _, weight in pairs]
    count = file.wave_count or len(waves)
    if count > len(waves) > 0:
        raise BadLens(f"FTYP counts {count} wavelengths, but {len(waves)} are listed")
    if not file.wave_count and len(waves) >= PADDED:
        raise BadLens(f"FTYP does not say how many of the {len(waves)} wavelengths are used")
    if count < len(waves) < PADDED:
        file.draft.notes.append(f"of the {len(waves)} wavelengths listed, FTYP uses the first {count}")
    file.draft.waves_um, file.draft.weights = waves[:count], weights[:count]


def _list_fields(file: ZemaxFile) -> None:
    count = file.field_count
    for values in (file.draft.field_x, file.draft.field_y):
        del values[count:]
    if any(value for command in file.vignetting for value in command.numbers()[:count]):
        file.draft.notes.append("the file's vignetting factors are not used: its openings clip the light")


def _complete(file: ZemaxFile, i: int, surface: ZemaxSurface) -> None:
    """A surface from all its lines, whatever their order."""
    for number, (value, command) in surface.parameters.items():
        if surface.kind == "EVENASPH" and 1 <= number <= 8:
            surface.powers[2 * number] = value
        elif value and surface.kind == "COORDBRK" and number != ORDER:
            raise command.error("a tilt or decentre: only centred lenses are read")
        elif value and surface.kind != "COORDBRK":
            raise command.error(f"a {surface.kind} surface has no such parameter")
    if surface.kind == "COORDBRK":  # all its values are 0: nothing but a distance
        surface.curvature = 0.0
        surface.glass = file.surfaces[i - 1].glass if i else "air"
    elif surface.material is not None and i < len(file.surfaces) - 1:
        surface.glass = _material(file, surface.material)
    before = file.surfaces[i - 1].glass if i else "air"
    if surface.kind != "COORDBRK":
        # Zemax clips at a DIAM that a person chose only where the surface has power, or its opening is said to float.
        clips = surface.user_set and (surface.floating or not surface.flat or surface.glass != before)
        surface.opening = surface.clear or (surface.semi_diameter if clips else None)


def _float(file: ZemaxFile, command: Command) -> None:
    """The stop's DIAM sets the light."""
    for stop in (surface for surface in file.surfaces if surface.is_stop):
        if not stop.semi_diameter:
            raise command.error("the stop's size sets the light, but the stop has no DIAM")
        if not (stop.user_set or file.saved):
            raise command.error(f"the stop's DIAM is computed again in configuration {file.draft.configuration}")
        file.draft.aperture = ("stop", stop.semi_diameter)


def _material(file: ZemaxFile, command: Command) -> str:
    try:
        glass, notes = zemax_glass(command, file.catalogues)
        if glass not in known_glasses():
            check_abbe(command.args[0], file.draft.waves_um)
    except BadLens as error:
        raise command.error(str(error)) from None
    file.draft.notes += [note for note in notes if note not in file.draft.notes]
    return glass


def _mode(file: ZemaxFile, command: Command) -> None:
    if command.text(0).upper() != "SEQ":
        raise command.error("only sequential lenses (MODE SEQ) are read")


def _name(file: ZemaxFile, command: Command) -> None:
    file.draft.title = " ".join(command.args).strip('"')


def _unit(file: ZemaxFile, command: Command) -> None:
    name = command.text(0).upper()
    if name not in UNITS_MM:
        raise command.error(f"unknown unit; valid: {', '.join(UNITS_MM)}")
    file.draft.unit_mm = UNITS_MM[name]


def _aperture(file: ZemaxFile, command: Command) -> None:
    if file.aperture is not None:
        raise command.error(f"a second definition of the aperture, after line {file.aperture.line}")
    file.aperture = command
    file.draft.aperture = ("stop", 0.0) if command.key == "FLOA" else light_cone(command, command, command.positive())


def _environment(file: ZemaxFile, command: Command) -> None:
    """Temperature, pressure, and whether indices follow them."""
    if command.whole(2, 0) and (command.number(0), command.number(1)) != (20, 1):
        file.draft.notes.append(
            f"the file is for {command.args[0]} degrees Celsius and {command.args[1]} atm; indices here are for 20 and 1"
        )


def _field_type(file: ZemaxFile, command: Command) -> None:
    file.draft.field_kind = FIELD_KINDS.get(command.whole(0), "unknown")
    for number, what in ((1, "a telecentric object space"), (6, "an afocal image space")):
        if command.whole(number, 0):
            raise command.error(f"{what} is not read")
    if len(command.args) > 3:
        file.field_count, file.wave_count = command.whole(2), command.whole(3)


def _field_values(file: ZemaxFile, command: Command) -> None:
    values = file.draft.field_x if command.key[0] == "X" else file.draft.field_y
    values[:] = command.numbers()


def _wave(file: ZemaxFile, command: Command) -> None:
    file.numbered[command.whole(0)] = (command.number(1), command.number(2, 1.0))


def _waves(file: ZemaxFile, command: Command) -> None:
    file.listed[0][:] = command.numbers()


def _wave_weights(file: ZemaxFile, command: Command) -> None:
    file.listed[1][:] = command.numbers()


def _primary(file: ZemaxFile, command: Command) -> None:
    file.draft.primary = command.whole(0)


def _surf(file: ZemaxFile, command: Command) -> None:
    number = command.whole(0)
    if number != len(file.surfaces):
        raise command.error(f"surfaces are numbered from 0 without gaps: expected {len(file.surfaces)}")
    if number > MOST_SURFACES:
        raise command.error(f"more than {MOST_SURFACES} surfaces")
    file.surfaces.append(ZemaxSurface(command.line))


def _type(file: ZemaxFile, command: Command) -> None:
    kind = command.text(0).upper()
    if kind not in ("STANDARD", "EVENASPH", "COORDBRK"):
        raise command.error("only STANDARD and EVENASPH surfaces are read")
    file.surface(command).kind = kind


def _stop(file: ZemaxFile, command: Command) -> None:
    file.surface(command).is_stop = True


def _curvature(file: ZemaxFile, command: Command) -> None:
    surface = file.surface(command)
    surface.curvature = command.number()
    _status(surface, command, "CRVT")


def _status(surface: ZemaxSurface, command: Command, operand: str) -> None:
    """The number behind a value: whether it is solved."""
    if len(command.args) > 1 and command.number(1):
        surface.solves.append((operand, command))


def _thickness(file: ZemaxFile, command: Command) -> None:
    surface = file.surface(command)
    infinite = command.text(0).upper() == "INFINITY"
    surface.thickness = INFINITE if infinite else command.number()
    if len(file.surfaces) > 1 and abs(surface.thickness) >= INFINITE:
        raise command.error("only the object may be infinitely far away")
    _status(surface, command, "THIC")


def _conic(file: ZemaxFile, command: Command) -> None:
    file.surface(command).conic = command.number()


def _parameter(file: ZemaxFile, command: Command) -> None:
    file.surface(command).parameters[command.whole(0)] = (command.number(1), command)


def _diameter(file: ZemaxFile, command: Command) -> None:
    surface = file.surface(command)
    surface.semi_diameter, flag = abs(command.number()), command.whole(1, 0)
    if flag not in CHOSEN:
        raise command.error(f"its second number is one of {', '.join(map(str, CHOSEN))}")
    surface.user_set = CHOSEN[flag] and surface.semi_diameter > 0
    if flag == PICKED_UP:
        file.draft.notes.append(f"line {command.line}: DIAM is picked up from another surface: it does not clip here")


def _floating(file: ZemaxFile, command: Command) -> None:
    file.surface(command).floating = True


def _clear_aperture(file: ZemaxFile, command: Command) -> None:
    if command.number(0) > 0:
        raise command.error(f"an annular aperture: {NOT_CIRCULAR}")
    file.surface(command).clear = command.positive(1)


def _glass(file: ZemaxFile, command: Command) -> None:
    if command.text(0).upper() == "MIRROR":
        raise command.error("a mirror: only refracting lenses are read")
    if command.args[0].upper() in MODEL_GLASS and not is_glass(
        f"{command.number(3, 0.0):.9g}/{command.number(4, 0.0):.9g}"
    ):
        raise command.error("a model glass needs its index, 1 or more, and its Abbe number, above 0")
    if command.whole(1, 0) == 4:
        raise command.error("an offset of a glass' index is not read")
    surface = file.surface(command)
    surface.material = command
    if command.whole(1, 0) == PICKED_UP:
        surface.solves.append(("", command))


def _catalogues(file: ZemaxFile, command: Command) -> None:
    file.catalogues = (*file.catalogues, *command.args)


def _vignetting(file: ZemaxFile, command: Command) -> None:
    file.vignetting.append(command)


def _count(file: ZemaxFile, command: Command) -> None:
    file.draft.configurations = max(command.whole(0), 1)
    file.counted = command


_HANDLERS: dict[str, Callable[[ZemaxFile, Command], None]] = {
    "MODE": _mode,
    "NAME": _name,
    "UNIT": _unit,
    **dict.fromkeys(("ENPD", "FNUM", "OBNA", "FLOA"), _aperture),
    "ENVD": _environment,
    "FTYP": _field_type,
    **dict.fromkeys(("XFLN", "YFLN", "XFLD", "YFLD"), _field_values),
    **dict.fromkeys(("VDXN", "VDYN", "VCXN", "VCYN", "VANN", "ZVDX", "ZVDY", "ZVCX", "ZVCY", "ZVAN"), _vignetting),
    "WAVM": _wave,
    **dict.fromkeys(("WAVL", "WAVN"), _waves),
    **dict.fromkeys(("WWGT", "WWGN"), _wave_weights),
    "PWAV": _primary,
    "GCAT": _catalogues,
    "SURF": _surf,
    "TYPE": _type,
    "STOP": _stop,
    "CURV": _curvature,
    "DISZ": _thickness,
    "CONI": _conic,
    "PARM": _parameter,
    "DIAM": _diameter,
    "CLAP": _clear_aperture,
    "FLAP": _floating,
    "GLAS": _glass,
    "MNUM": _count,
}
