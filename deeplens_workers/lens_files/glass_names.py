"""Which glass a Zemax or CODE V file means: by its name, its code, or its own index; never by guessing.

The result is a name that DeepLens resolves: of its catalogues, or 'nd/Vd'.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from deeplens_workers.glasses import AIR, Glass, abbe_name, find_glass, is_glass, known_glasses, same_name
from deeplens_workers.lens_files.prescription import BadLens
from deeplens_workers.lens_files.text import Command
from spaces.errors import nearest

# Zemax writes this index and Abbe number where a catalogue is meant to have the glass.
ZEMAX_DEFAULT = (1.5, 40.0)
D_LINE = 0.5875618
# An index and an Abbe number say the index of N-BK7 within 1e-3 between these wavelengths in um, and at 1.5 um miss it by 5e-3.
ABBE_UM = (0.36, 0.9)
# A glass of the same name whose index differs by more is another glass.
SAME_INDEX = 1e-3
# The largest misfit of two terms to a glass' own indices that is accepted.
FITTED = 1e-3
# The same of Abbe numbers, as a share.
SAME_ABBE = 0.01
MODEL_GLASS = ("___BLANK",)
MAKERS = {"nikon": "hikari"}
# DeepLens' makers of crystals and plastics, which are the same from all.
NO_MAKERS = ("", "crystran", "refractiveindex.info")
# Glasses that DeepLens has without their maker.
NOT_SPECIAL = frozenset(
    ["basf55", "flint", "h-lak51", "hk51", "s-bal42", "s-lah55vs", "s-lal14", "s-nph1", "s-til6", "s-tim35", "ssk4"]
)
CODE = re.compile(r"(\d{3,6})\.(\d{3,6})")
# Codes leave out the 1 of the index: 003.291 is 2.003.
LOWEST_CODE = 300
SIX_DIGITS = re.compile(r"(\d{3})(\d{3})")
INDEX_AND_ABBE = re.compile(r"(\d\.\d+):(\d+\.?\d*)")


def nearest_glass(name: str) -> str:
    """A hint for a misspelt glass: the nearest known one (there are hundreds, so never all of them)."""
    hint = nearest(name.lower(), known_glasses())
    return hint if hint.startswith("did you mean") else "use a catalogue name such as 'n-bk7', or 'nd/Vd'"


def zemax_glass(line: Command, catalogues: Sequence[str]) -> tuple[str, list[str]]:
    """DeepLens' name for the glass of a GLAS line (name, status, pickup, nd, Vd, dPgF), and notes.

    Args:
        catalogues: of GCAT; empty if the file has no such line.

    Raises:
        BadLens: it is unknown and has only Zemax's default index, a catalogue has another index for it, or it is of a
            maker that the catalogues do not name.
    """
    name, nd, vd = line.args[0], line.number(3, 0.0), line.number(4, 0.0)
    model = name.upper() in MODEL_GLASS
    own = nd > 1 and (nd, vd) != ZEMAX_DEFAULT
    notes = []
    if (model or line.whole(1, 0) == 1) and line.number(5, 0.0):
        notes = [f"glass {name}: its dPgF {line.args[5]} is not used, only its nd and Vd"]
    if model:
        return f"{nd:.9g}/{vd:.9g}", notes
    glass = find_glass(name) if name.lower() in known_glasses() else None
    if line.whole(1, 0) == 1 and not (glass and _is_same(glass, nd, vd)):
        if not is_glass(f"{nd:.9g}/{vd:.9g}"):
            raise BadLens("a model glass needs its index, 1 or more, and its Abbe number, above 0")
        return f"{nd:.9g}/{vd:.9g}", [f"glass {name} is a model: its own nd {nd:g} and Vd {vd:g} are used", *notes]
    if glass is not None:
        if own and abs(_nd(glass) - nd) > SAME_INDEX:
            raise BadLens(f"glass {name} has nd {nd:g} here, but {_nd(glass):g} in DeepLens' catalogues")
        if _other_maker(glass, catalogues):
            whose = (
                f"glass {name} is {glass.maker.upper()}'s in DeepLens; the file's catalogues are {' '.join(catalogues)}"
            )
            if not own:
                raise BadLens(whose)
            notes = [whose, *notes]
        return glass.name, notes
    if not own or not vd > 0:
        raise BadLens(
            f"no catalogue of DeepLens has glass {name}, and the line has no index of its own; {nearest_glass(name)}"
        )
    note = f"glass {name} is in no catalogue of DeepLens: its own nd {nd:g} and Vd {vd:g} are used"
    return f"{nd:.9g}/{vd:.9g}", [note, *notes]


def _nd(glass: Glass) -> float:
    return glass.index(D_LINE) if math.isnan(glass.nd) else glass.nd


def _is_same(glass: Glass, nd: float, vd: float) -> bool:
    """Whether an index and an Abbe number are a glass'."""
    return abs(_nd(glass) - nd) <= SAME_INDEX and not abs(glass.vd - vd) > SAME_ABBE * vd


def _other_maker(glass: Glass, catalogues: Sequence[str]) -> bool:
    """Whether none of the makers that the catalogues name has this glass under its name."""
    if not catalogues or glass.maker in NO_MAKERS:
        return False
    named = {_maker(name) for name in catalogues}
    makers = {one.maker for one in same_name(glass.name) if one.maker and _is_same(one, _nd(glass), glass.vd)}
    return not any(maker in name for maker in makers for name in named)


def _maker(name: str) -> str:
    return MAKERS.get(name.lower(), name.lower())


def codev_glass(word: str) -> tuple[str, str]:
    """DeepLens' name for a glass of a CODE V surface that is not private, and a note, or "".

    NBK7_SCHOTT, N-BK7, 517.642, 517642, 1.5168:64.17.

    Raises:
        BadLens: it is unknown.
    """
    if word.upper() == "AIR":
        return AIR.name, ""
    if coded := _coded(word):
        return coded, ""
    if word.lower() in known_glasses():  # some names have an underscore
        return word.lower(), _whose(word, find_glass(word))
    name, _, suffix = word.lower().partition("_")
    maker = _maker(suffix)
    found = [find_glass(one) for one in _by_letters().get(_letters(name), ())]
    if maker:
        found = [glass for glass in found if maker in glass.maker] or [
            glass for glass in found if glass.maker in NO_MAKERS and _may_be(glass, maker)
        ]
    exact = [glass for glass in found if glass.name == name] or found
    if len(exact) == 1:
        return exact[0].name, "" if maker else _whose(word, exact[0])
    if exact:
        raise BadLens(f"glass {word} may be {', '.join(glass.name for glass in exact)}: write it so")
    raise BadLens(f"no catalogue of DeepLens has glass {word}; {nearest_glass(name)}")


def _may_be(glass: Glass, maker: str) -> bool:
    """Whether a glass that DeepLens has without a maker may be this one's: special materials are the same from all."""
    return glass.name not in NOT_SPECIAL or any(maker in one.maker for one in map(find_glass, known_glasses()))


def _whose(word: str, glass: Glass) -> str:
    """Of a name without a maker, the note whose glass is taken."""
    return "" if glass.maker in (*NO_MAKERS, "schott") else f"glass {word} is taken to be {glass.maker.upper()}'s"


def check_abbe(name: str, waves_um: Sequence[float]) -> None:
    """Whether a glass that only has an index and an Abbe number is known at all wavelengths.

    Raises:
        BadLens: at which it is not.
    """
    for wave in waves_um:
        if not ABBE_UM[0] <= wave <= ABBE_UM[1]:
            raise BadLens(
                f"glass {name}: its nd and Vd give no index at {wave:g} um, only from {ABBE_UM[0]:g} to {ABBE_UM[1]:g} um"
            )


def _coded(word: str) -> str:
    """'nd/Vd' of a six-digit code or of nd:Vd; "" for anything else."""
    if match := SIX_DIGITS.fullmatch(word) or CODE.fullmatch(word):
        index, abbe = match.groups()
        if int(index[:3]) < LOWEST_CODE:
            raise BadLens(f"glass {word}: a code below {LOWEST_CODE} may mean an index above 2: write nd/Vd")
        return f"1.{index}/{float(f'0.{abbe}') * 100:.9g}"
    match = INDEX_AND_ABBE.fullmatch(word)
    return f"{match[1]}/{match[2]}" if match and is_glass(f"{match[1]}/{match[2]}") else ""


def _letters(name: str) -> str:
    """A name as CODE V spells it: letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _by_letters() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in known_glasses():
        found[_letters(name)] = (*found.get(_letters(name), ()), name)
    return found


def fitted(name: str, waves_um: Sequence[float], indices: Sequence[float], used_um: Sequence[float]) -> tuple[str, str]:
    """'nd/Vd' for a glass given by its indices, and a note: DeepLens takes no table.

    The two terms are fitted to the lens' wavelengths: to the table's points among them and the next on each side.

    Args:
        waves_um, indices: the table.
        used_um: the lens' wavelengths.

    Raises:
        BadLens: the table does not cover the wavelengths, or two terms do not fit it.
    """
    order = np.argsort(waves_um)
    waves, table = np.asarray(waves_um)[order], np.asarray(indices)[order]
    low, high = min(used_um), max(used_um)
    slack = 1e-3  # such as 587.5618 nm beside a table that ends at 587.6
    if low < waves[0] * (1 - slack) or high > waves[-1] * (1 + slack):
        raise BadLens(
            f"glass {name} has indices from {waves[0]:g} to {waves[-1]:g} um, but the lens has wavelengths from {low:g} "
            f"to {high:g} um"
        )
    first = max(int(np.searchsorted(waves, low, side="right")) - 1, 0)
    last = min(int(np.searchsorted(waves, high, side="left")), len(waves) - 1)
    near, values = waves[first : last + 1], table[first : last + 1]
    if len(near) == 1:
        first, last = max(first - 1, 0), min(last + 1, len(waves) - 1)
        near, values = waves[first : last + 1], table[first : last + 1]
    if len(near) == 1:
        return _accepted(name, values[0], 0.0, 0.0)
    basis = np.stack([np.ones_like(near), (near * 1e3) ** -2], axis=1)
    (a, b), *_ = np.linalg.lstsq(basis, values, rcond=None)
    misfit = float(np.abs(basis @ np.array([a, b]) - values).max())
    return _accepted(name, float(a), float(b), misfit)


def _accepted(name: str, a: float, b: float, misfit: float) -> tuple[str, str]:
    glass = abbe_name(a, b)
    if not is_glass(glass):
        raise BadLens(f"glass {name}: its index does not fall with wavelength, which DeepLens' 'nd/Vd' cannot say")
    if misfit > FITTED:
        raise BadLens(f"glass {name}: 'nd/Vd' misses its indices by up to {misfit:.1g}, more than {FITTED:g}")
    nd, vd = glass.split("/")
    return (
        glass,
        f"glass {name} is fitted by nd {float(nd):.5f}, Vd {float(vd):.2f}, which misses its indices by up to {misfit:.1g}",
    )
