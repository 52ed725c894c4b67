"""What a pixel gathers: closed forms of each filter, and DeepLens' own kernels, which are triangles."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from deeplens_workers import cache
from deeplens_workers.kernels import Kernels
from deeplens_workers.pooling import BOX_RAMP, area_weights
from deeplens_workers.psf_data import PsfData
from deeplens_workers.render import load
from deeplens_workers.splat import MOMENTS, splat_hits
from spaces.errors import SpaceError, check
from tests.deeplens_workers.conftest import at_depth, rel_l2, tracing

# On the axis, at the edge and near the corner, where the triplet's light is all in the window.
FIELD = at_depth(np.array([[0.0, 0.0], [0.9, 0.0], [0.95, 0.95]]), -10000.0)
WAVE = 0.587


@pytest.mark.parametrize("ramp", [1.0, BOX_RAMP])
@pytest.mark.parametrize(("side", "zoom"), [(11, 1.0), (12, 0.3)])
def test_rays_are_shared_out_whole_and_a_pixel_spreads_them_by_its_filter_s_variance(ramp, side, zoom):
    """A box has the variance 1/12 of a pixel's side squared, and as much of its ramp; the triangle so has 1/6."""
    spread = norm.ppf((np.arange(4000) + 0.5) / 4000)
    hits = np.stack([spread + 0.2, 0.7 * np.random.default_rng(0).permutation(spread) - 0.3], axis=-1) / zoom
    kernel, moments = np.zeros((side, side)), np.zeros(MOMENTS)
    splat_hits(hits, np.ones(len(hits), bool), zoom, ramp, kernel, moments)
    assert kernel.sum() == pytest.approx(len(hits))
    assert moments[4] == len(hits)
    places = (np.arange(side) - (side - 1) / 2) / zoom
    x, y = kernel.sum(0) / len(hits), kernel.sum(1)[::-1] / len(hits)
    np.testing.assert_allclose([x @ places, y @ places], hits.mean(0), atol=1e-3 / zoom)
    grown = [x @ places**2, y @ places**2] - (hits**2).mean(0)
    np.testing.assert_allclose(grown * zoom**2, (1 + ramp**2) / 12, atol=2e-3)


@pytest.mark.parametrize(("ramp", "reach"), [(1.0, 0.5), (BOX_RAMP, BOX_RAMP / 2)])
def test_rays_that_belong_in_part_outside_the_window_are_lost(ramp, reach):
    hits = np.array(
        [[4 - reach - 0.01, 0.0], [4 - reach + 0.01, 0.0], [0.0, reach - 4 + 0.01], [0.0, reach - 4 - 0.01]]
    )
    kernel, moments = np.zeros((8, 8)), np.zeros(MOMENTS)
    splat_hits(hits, np.ones(4, bool), 1.0, ramp, kernel, moments)
    assert (moments[0], moments[4]) == (4, 2)
    assert kernel.sum() == pytest.approx(2)
    assert kernel[:, -1].sum() == pytest.approx(kernel[-1].sum())  # the right and the lowest pixels
    assert kernel[:, -1].sum() > 0.98


def deeplens(lens, pixels: int, pitch_um: float, seed: int):
    """DeepLens' kernels [N, pixels, pixels], of rays that fill the pupil of each point."""
    import torch

    from deeplens_workers.geolens import rays_through

    torch.manual_seed(seed)
    own, lens.pixel_size = lens.pixel_size, 1e-3 * pitch_um
    try:
        with torch.no_grad(), rays_through(lens, lens.entr_pupilz, 1.3 * lens.entr_pupilr):
            return lens.psf(torch.tensor(FIELD), wvln=WAVE, ks=pixels, spp=2**16).double().numpy()
    finally:
        lens.pixel_size = own


def of_boxes(lens, traced: int, pixels: int, window_um: float, seed: int):
    weights = area_weights(traced, pixels)
    return weights @ deeplens(lens, traced, window_um / traced, seed) @ weights.T


@pytest.mark.parametrize(
    ("pitch_um", "px", "traced"),
    [(3.2, (64, 15), 64), (12.8, (16, 16), 128)],
    ids=["pooled", "the sensor's own pixels"],
)
def test_kernels_are_those_of_deeplens_with_the_same_filter_and_no_other(renderer, pitch_um, px, traced):
    """Its own pixels are triangles; finer ones of it, pooled, are boxes. What they differ by is its rays' noise."""
    one, window = renderer("cooke_triplet_50mm", pitch_um), pitch_um * px[0]
    lens = one.tracer._lens
    theirs = {
        "triangle": [deeplens(lens, px[1], window / px[1], seed) for seed in (0, 1)],
        "box": [of_boxes(lens, traced, px[1], window, seed) for seed in (0, 1)],
    }
    ours = {name: one.render(FIELD, tracing(2**17, (WAVE,), px, pixel_filter=name)).kernels[:, 0] for name in theirs}
    for name, (first, second) in theirs.items():
        noise = rel_l2(first, second).mean() / np.sqrt(2)
        assert noise < 0.025
        assert rel_l2(ours[name], first).mean() < 1.5 * noise
        (other,) = ours.keys() - {name}
        assert rel_l2(ours[other], first).mean() > 3 * 1.5 * noise


def test_a_box_on_the_sensor_s_own_pixels_is_that_of_finer_ones_pooled():
    """Of a unit or a lens that is not centred too, whose rays are traced one by one: the loops are two."""
    from deeplens_workers.lens_file import find_lens
    from deeplens_workers.render import KernelRenderer

    coarse, fine = (load(find_lens("cooke_triplet_50mm"), pitch) for pitch in (12.8, 1.6))
    single = KernelRenderer(coarse.tracer, maps=False)
    pooled = fine.render(FIELD, tracing(2**13, (WAVE,), (128, 16))).kernels
    for one in (coarse, single):
        assert rel_l2(one.render(FIELD, tracing(2**13, (WAVE,), (16, 16))).kernels, pooled).max() < 0.01


def test_only_a_filter_that_an_earlier_version_did_not_make_is_part_of_the_key(tmp_path, make_request):
    def parameters(**changes):
        request = make_request(**changes)
        empty = Kernels.empty(len(request.points), 3, request.tracing.kernel_px)
        return json.loads((cache.write(tmp_path, request, empty) / "manifest.json").read_text())["parameters"]

    own = {"trace_px": 16, "kernel_px": 16}
    assert "pixel_filter" not in parameters(pixel_filter="box")
    assert parameters(pixel_filter="triangle")["pixel_filter"] == "triangle"
    assert "pixel_filter" not in parameters(**own, pixel_filter="triangle")
    assert parameters(**own, pixel_filter="box")["pixel_filter"] == "box"
    assert "pixel_filter" not in parameters(**own, model="huygens")
    smooth = [parameters(**own, pooling="smooth", pixel_filter=name) for name in ("box", "triangle")]
    assert smooth[0] == smooth[1]


@pytest.mark.parametrize(("kernel_px", "expected"), [(15, "box"), (64, "triangle")])
def test_a_run_that_does_not_say_its_filter_has_the_one_that_its_version_made(kernel_px, expected):
    recorded = {"lens": "cooke_triplet_50mm", "trace_px": 64, "kernel_px": kernel_px, "pixel_pitch_um": 3.2}
    facts = {"sensor_mm": (25.0, 25.0), "primary_um": 0.587}
    assert PsfData(**recorded, lens_facts=facts).pixel_filter == expected
    assert PsfData(**recorded, lens_facts=facts, pixel_filter="box").pixel_filter == "box"
    assert PsfData(**recorded).pixel_filter == "box"  # of a space


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pixel_filter": "hat"}, "'box' or 'triangle'"),
        ({"pixel_filter": "triangle", "kernel_px": 1}, r"kernel_px=1"),
        ({"pixel_filter": "triangle", "psf_model": "huygens"}, "geometric, but got huygens"),
    ],
)
def test_filters_that_cannot_be_are_refused(changes, told):
    with pytest.raises(SpaceError, match=told):
        check(PsfData, {"lens": "cooke_triplet_50mm", **changes}, where="data")
