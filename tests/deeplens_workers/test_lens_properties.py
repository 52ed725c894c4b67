"""Properties of reading lens files that hold for any lens, and for any damage to its file."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.lens_files.codev import read_codev
from deeplens_workers.lens_files.deeplens_json import centred_surfaces, check, surface_tree
from deeplens_workers.lens_files.prescription import BadLens, Surface
from deeplens_workers.lens_files.text import decode
from deeplens_workers.lens_files.zemax import read_zemax
from spaces.errors import SpaceError
from tests.deeplens_workers.lens_writers import Design, S, changed, codev, write, zemax

radii = st.one_of(st.just(0.0), st.floats(5.0, 500.0), st.floats(-500.0, -5.0))
lens_surfaces = st.lists(
    st.builds(
        S,
        radius=radii,
        thickness=st.floats(-5.0, 60.0),
        glass=st.sampled_from(["", "N-BK7", "N-SF6"]),
        opening=st.one_of(st.none(), st.floats(0.5, 30.0)),
        conic=st.floats(-5.0, 3.0),
        terms=st.lists(st.floats(-1e-5, 1e-5), max_size=7).map(tuple),
    ),
    min_size=1,
    max_size=8,
).map(lambda surfaces: [*surfaces[:-1], replace(surfaces[-1], glass="")])  # sensors are in air


@settings(max_examples=150, deadline=None)
@given(surfaces=lens_surfaces, stop=st.integers(0, 7), unit=st.sampled_from([1.0, 10.0, 25.4]))
def test_both_formats_and_json_hold_the_same_surfaces(surfaces, stop, unit):
    surfaces[stop % len(surfaces)] = replace(surfaces[stop % len(surfaces)], stop=True)
    design = Design(tuple(surfaces), unit_mm=unit)
    by_zemax = read_zemax(zemax(design).splitlines())
    by_codev = read_codev(codev(design).splitlines())
    assert len(by_zemax.surfaces) == len(by_codev.surfaces) == len(surfaces)
    for one, other, meant in zip(by_zemax.surfaces, by_codev.surfaces, surfaces, strict=True):
        assert _close(one, other)
        assert one.thickness == pytest.approx(meant.thickness, rel=1e-12, abs=1e-12)
        assert one.curvature == pytest.approx(1 / meant.radius if meant.radius else 0.0, rel=1e-12)
        assert one.glass == (meant.glass.lower() or "air")
        assert one.terms[: len(meant.terms)] == pytest.approx(meant.terms[: len(one.terms)], rel=1e-12)
        assert not any(meant.terms[len(one.terms) :])
        assert (one.semi_diameter, meant.opening).count(None) in (0, 2)
        assert one.is_stop == meant.stop
    opened = [replace(one, semi_diameter=one.semi_diameter or 1.0) for one in by_zemax.surfaces]
    trees = [surface_tree(one, "air" if i == 0 else opened[i - 1].glass) for i, one in enumerate(opened)]
    read = centred_surfaces(check({"surfaces": trees, "r_sensor": 1.0})) if _refracts(trees) else None
    for one, other in zip(opened, read or opened, strict=True):
        assert _close(one, other)


def _refracts(trees) -> bool:
    return any(tree["type"] != "Aperture" for tree in trees)


def _close(one: Surface, other: Surface) -> bool:
    """The same surface: a plane's conic does nothing, and neither do terms of 0."""
    terms = [values.terms + (0.0,) * (9 - len(values.terms)) for values in (one, other)]
    return (
        math.isclose(one.curvature, other.curvature, rel_tol=1e-12)
        and math.isclose(one.thickness, other.thickness, rel_tol=1e-12, abs_tol=1e-12)
        and (math.isclose(one.conic, other.conic, rel_tol=1e-12) or not one.curvature)
        and all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(*terms, strict=True))
        and (one.glass, one.is_stop) == (other.glass, other.is_stop)
        and (one.semi_diameter or 0) == pytest.approx(other.semi_diameter or 0, rel=1e-12)
    )


SEEDS = {
    ".zmx": zemax(replace(changed(0, conic=-0.5, terms=(1e-7,), opening=6.0), waves_nm=(656.3, 587.6), primary=2)),
    ".seq": codev(replace(changed(0, conic=-0.5, terms=(1e-7,), opening=6.0), waves_nm=(656.3, 587.6), primary=2))
    + "RDY S1 51.0\nPRV\nPWL 656.3 486.1\n'MINE' 1.5 1.51\nEND\nZOO 2\nZOO THI S2 46 47\n",
    ".json": (LENSES / "cooke_triplet_50mm.json").read_text(),
}
WORDS = [
    "0",
    "-1",
    "1e30",
    "1e-30",
    "nan",
    "INFINITY",
    "1e400",
    "S1",
    "SI",
    ";",
    "&",
    "'",
    '"',
    "",
    "-0",
    "3",
    "STO",
    "\0",
    "é",
    "[",
    "{",
]


def mutated(text: str, source: random.Random) -> bytes:
    """A file with one to four words, lines or bytes changed."""
    for _ in range(source.randint(1, 4)):
        lines = text.split("\n")
        i = source.randrange(len(lines))
        words = lines[i].split(" ")
        match source.randrange(6):
            case 0:
                words[source.randrange(len(words))] = source.choice(WORDS)
                lines[i] = " ".join(words)
            case 1:
                del lines[i]
            case 2:
                lines.insert(source.randrange(len(lines)), lines[i])
            case 3:
                words.insert(source.randrange(len(words) + 1), source.choice(WORDS))
                lines[i] = " ".join(words)
            case 4:
                other = source.randrange(len(lines))
                lines[i], lines[other] = lines[other], lines[i]
            case _:
                at = source.randrange(len(text) + 1)
                lines = [text[:at] + chr(source.randrange(1, 300)) + text[at + source.randrange(3) :]]
        text = "\n".join(lines) or "x"
    return text.encode(source.choice(["utf-8", "utf-8", "utf-8", "utf-16", "utf-16-be"]))


def refusal(read: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    """What reading gives, or the message that refuses it; any other exception is a failure."""
    try:
        return read(*args), ""
    except (SpaceError, BadLens) as error:
        return None, str(error)


def not_json(text: str):
    raise AssertionError(text)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_a_lens_or_one_line(tmp_path, count):
    """Never another exception, nor a lens of numbers that are none."""
    source, lenses = random.Random(count), 0
    for number in range(count):
        suffix = source.choice(list(SEEDS))
        path = write(tmp_path, f"mine{suffix}", mutated(SEEDS[suffix], source))
        lens, message = refusal(find_lens, path)
        assert message.isprintable(), number
        if lens is None:
            continue
        lenses += 1
        tree = json.loads(lens.text, parse_constant=not_json)
        sizes = [*tree["sensor_size"], *(surface["r"] for surface in tree["surfaces"])]
        assert all(size > 0 for size in sizes)
        known = [lens.conditions.focal_length_mm, lens.conditions.f_number]
        assert all(value is None or (value and math.isfinite(value)) for value in known), number
    assert 0.1 < lenses / count < 0.9


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_damaged_text_is_a_design_or_one_line():
    """The readers alone, on more files."""
    source = random.Random(1)
    for number in range(10_000):
        suffix = source.choice([".zmx", ".seq"])
        read = read_zemax if suffix == ".zmx" else read_codev
        content = mutated(SEEDS[suffix], source)
        design, message = refusal(lambda content=content, read=read: read(decode(content), None))
        assert message.isprintable(), number
        if design is not None:
            values = [
                value for one in design.surfaces for value in (one.curvature, one.thickness, one.conic, *one.terms)
            ]
            assert all(map(math.isfinite, values))
            assert design.stop >= 0
