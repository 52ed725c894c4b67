"""Every benchmark runs whole, at its tiny size, and prints the figures that it is there for; how large they are is not looked at."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
FIGURES = {
    "asbuilt": ("asbuilt_ratio", "traced_passed"),
    "curve_table": ("best",),
    "gpu": ("gpu_to_cpu", "graphs_gain", "lanes_gain"),
    "overhead": ("ratio",),
    "pack": ("pack_gain",),
    "psfnet": ("psfnet_error", "psfnet_ms", "psfnet_ratio"),
    "render": ("units_per_core", "noise_equivalent_speedup", "equal_rays_speedup", "efficiency"),
    "render_image": ("db", "deeplens_db", "undistorted_db", "cheaper", "four_megapixels"),
    "scale": ("board_ms", "driver_ms", "driver_growth"),
    "search": ("driver_ms_per_trial", "ours_to_random", "ours_to_stock"),
    "sensitivity": ("covered",),
    "startup": ("cpu_seconds",),
    "stream": ("stream_to_grid", "kernels_per_second", "turned_to_independent"),
    "train": ("busy", "lane_to_raw"),
}


def test_every_benchmark_has_its_figures_here():
    assert sorted(FIGURES) == FILES


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_runs_whole(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--tiny"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,  # where its cache goes
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in FIGURES[name]:
        values = [float(value) for value in re.findall(rf"\b{figure}=(\S+)", done.stdout)]
        assert values, f"no {figure} in {done.stdout}"
        assert all(0 < value < math.inf for value in values), (figure, values)
