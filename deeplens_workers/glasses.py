"""Names of the glasses deeplens knows, read from its catalogue files without importing it; and which deeplens this is."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from spaces.errors import SpaceError


@cache
def deeplens_version() -> str:
    """Version of the installed `deeplens-core`.

    Raises:
        SpaceError: it is missing, or the unrelated distribution `deeplens` occupies its import name.
    """
    try:
        unrelated = version("deeplens")
    except PackageNotFoundError:
        unrelated = None
    if unrelated is not None:
        raise SpaceError(
            f"the installed distribution `deeplens` {unrelated} is not the lens library and takes its import name; "
            "run `pip uninstall deeplens`, then `pip install --force-reinstall deeplens-core`"
        )
    try:
        return version("deeplens-core")
    except PackageNotFoundError:
        raise SpaceError("`deeplens-core` is not installed; run `pip install deeplens-core`") from None


def is_glass(name: str) -> bool:
    """Whether deeplens can turn a material name into a refractive index: a catalogue name, air, or 'nd/Vd'."""
    index, slash, abbe = name.partition("/")
    if slash:
        try:
            return float(index) >= 1 and float(abbe) > 0
        except ValueError:
            return False
    return name.lower() in ("air", "vacuum", "occluder") or name.lower() in known_glasses()


@cache
def known_glasses() -> tuple[str, ...]:
    """Lower-case names of all catalogue glasses, sorted."""
    deeplens_version()
    spec = find_spec("deeplens")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "material"
    names: set[str] = set()
    for catalogue in folder.glob("*.AGF"):
        text = catalogue.read_bytes()
        decoded = text.decode("utf-16") if text[:2] in (b"\xff\xfe", b"\xfe\xff") else text.decode("utf-8", "replace")
        names.update(line.split()[1].lower() for line in decoded.splitlines() if line.startswith("NM "))
    custom = json.loads((folder / "materials_data.json").read_text())
    for table in ("INTERP_TABLE", "SELLMEIER_TABLE", "SCHOTT_TABLE", "MATERIAL_TABLE"):
        names.update(custom[table])
    fallback = json.loads((folder / "refractiveindex_data.json").read_text())
    names.update(fallback["FORMULA"], fallback["INTERP"])
    return tuple(sorted(names))
