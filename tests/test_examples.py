"""The examples run, small, print what they measured and write a picture."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SMALL = {
    "render_picture": ("--pixels", "64"),
    "refocus": ("--width", "240", "--grid", "3"),
    "deconvolve": ("--chart", "--pixels", "64", "--iterations", "3"),
    "sharpen": ("--chart", "--pixels", "48", "--steps", "8"),
}


def test_every_example_is_here():
    assert sorted(SMALL) == sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs(name: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", *SMALL[name], "--out", "found.png"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with Image.open(tmp_path / "found.png") as picture:
        assert min(picture.size) > 10
    check = CHECKS.get(name)
    if check:
        check(done.stdout)


def the_loss_falls(printed: str) -> None:
    losses = [float(value) for value in re.findall(r"loss ([\d.]+)", printed)]
    assert losses[-1] < losses[0]


def restoring_helps(printed: str) -> None:
    taken, *restored = (float(value) for value in re.findall(r"([\d.]+) dB", printed))
    assert len(restored) == 2
    assert min(restored) > taken


def each_distance_is_sharpest_where_it_is(printed: str) -> None:
    found = [tuple(map(float, pair)) for pair in re.findall(r"(\d+)% of the detail.*?(\d+)%", printed)]
    (near_by_near, far_by_near), *_, (near_by_far, far_by_far) = found
    assert near_by_near > near_by_far
    assert far_by_far > far_by_near


CHECKS = {
    "sharpen": the_loss_falls,
    "deconvolve": restoring_helps,
    "refocus": each_distance_is_sharpest_where_it_is,
}
