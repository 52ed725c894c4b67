"""`psf-search render`, as a user types it: what is written says what its pixels gather."""

import json
from typing import Any

import numpy as np
import pytest

from search.cli import main

SMALL = ("--grid", "2x2", "--pixel-pitch", "6.4", "--trace-px", "32", "--rays", "64", "--wavelengths", "0.587")


def rendered(path, *options: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Kernels and metadata of the file."""
    with pytest.raises(SystemExit) as left:
        main(["render", "--lens", "cooke_triplet_50mm", *SMALL, *options, "--out", str(path)])
    assert left.value.code == 0
    with np.load(path) as file:
        return file["kernels"], json.loads(str(file["metadata"]))


def test_a_file_has_kernels_of_the_filter_that_it_names(tmp_path):
    own, said = rendered(tmp_path / "own.npz")
    assert (own.shape, said["pixel_filter"], said["kernel_pixel_um"]) == ((4, 1, 32, 32), "box", 6.4)
    shared, said = rendered(tmp_path / "shared.npz", "--pixel-filter", "triangle")
    assert (shared.shape, said["pixel_filter"]) == ((4, 1, 32, 32), "triangle")
    assert (shared > 0).sum() > (own > 0).sum()
    pooled, said = rendered(tmp_path / "pooled.npz", "--pixel-filter", "triangle", "--kernel-px", "8")
    assert (pooled.shape, said["pixel_filter"], said["kernel_pixel_um"]) == ((4, 1, 8, 8), "triangle", 25.6)


def test_an_unknown_filter_is_refused_with_the_valid_ones(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["render", "--lens", "cooke_triplet_50mm", "--pixel-filter", "hat", "--out", str(tmp_path / "x.npz")])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert "pixel_filter" in told
    assert "'box'" in told
    assert "'triangle'" in told
