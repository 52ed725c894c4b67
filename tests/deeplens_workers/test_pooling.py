import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_workers.pooling import (
    BOX_RAMP,
    SMOOTHING,
    area_weights,
    fine_px,
    sensor_weights,
    smooth_weights,
    triangle_weights,
)


@given(st.integers(1, 70), st.integers(1, 70))
def test_energy_is_conserved_and_a_flat_kernel_stays_flat(a, b):
    pooled, traced = sorted((a, b))
    weights = area_weights(traced, pooled)
    assert weights.shape == (pooled, traced)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(0), 1)
    np.testing.assert_allclose(weights.sum(1), traced / pooled)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)  # centred kernels stay centred


def test_a_pixel_on_a_border_is_split_by_area():
    np.testing.assert_allclose(area_weights(3, 2), [[1, 0.5, 0], [0, 0.5, 1]])


def test_pooling_cannot_enlarge():
    with pytest.raises(ValueError, match=r"pooled=16, traced=15"):
        area_weights(15, 16)
    with pytest.raises(ValueError, match=r"pooled=16, traced=15"):
        sensor_weights(30, 15, 16, "box")
    with pytest.raises(ValueError, match=r"pooled=16, traced=15"):
        triangle_weights(15, 16)


def traced_blob(px: int, sigma: float, centre: tuple[float, float]) -> np.ndarray:
    """A Gaussian density of unit sum as `px` pixels across the window of -1 to 1 trace it: each ray's hat is two pixels wide."""
    width, inside = 2 / px, np.linspace(-1, 1, 401)
    hat = (1 - np.abs(inside)) / (1 - np.abs(inside)).sum()
    places = (np.arange(px) + 0.5) * width - 1

    def along(middle: float) -> np.ndarray:
        distance = (places - middle)[:, None] + inside * width
        return np.asarray(np.exp(-0.5 * (distance / sigma) ** 2) @ hat * width / (sigma * np.sqrt(2 * np.pi)))

    return np.outer(along(centre[1]), along(centre[0]))


@pytest.mark.parametrize(("trace_px", "kernel_px"), [(64, 32), (64, 16), (64, 15), (16, 8), (16, 16)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.21, -0.13)])
@pytest.mark.parametrize("sigma", [0.1, 0.16])
@pytest.mark.parametrize("pixel_filter", ["box", "triangle"])
def test_a_smoothed_kernel_becomes_what_pixels_of_the_sensor_gather(trace_px, kernel_px, centre, sigma, pixel_filter):
    samples = fine_px(trace_px, kernel_px, pixel_filter)
    smooth, sensor = smooth_weights(samples), sensor_weights(samples, trace_px, kernel_px, pixel_filter)
    smoothed = smooth @ traced_blob(samples, sigma, centre) @ smooth.T
    # Samples of a density: the Gaussian of both, here of unit sum over the window's samples.
    both = np.hypot(sigma, SMOOTHING * 2 / samples)
    places = (np.arange(samples) + 0.5) * 2 / samples - 1
    rows, columns = (np.exp(-0.5 * ((places - middle) / both) ** 2) for middle in centre[::-1])
    density = np.outer(rows, columns) / (2 * np.pi * both**2) * (2 / samples) ** 2
    scale = smoothed.sum() / density.sum()
    assert np.linalg.norm(smoothed - scale * density) < 0.01 * np.linalg.norm(smoothed)

    if pixel_filter == "triangle":
        expected = traced_blob(kernel_px, sigma, centre)
    else:
        finer = trace_px if trace_px > kernel_px else round(kernel_px / BOX_RAMP)
        area = area_weights(finer, kernel_px)
        expected = area @ traced_blob(finer, sigma, centre) @ area.T
    found = sensor @ smoothed @ sensor.T
    found *= expected.sum() / found.sum()
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize(("trace_px", "kernel_px"), [(64, 32), (64, 21), (63, 21), (64, 15), (16, 16)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.21, -0.13)])
def test_traced_pixels_become_triangles_by_their_weights(trace_px, kernel_px, centre):
    weights, traced = triangle_weights(trace_px, kernel_px), traced_blob(trace_px, 0.13, centre)
    found, expected = weights @ traced @ weights.T, traced_blob(kernel_px, 0.13, centre)
    np.testing.assert_allclose(weights.sum(0), 1)
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)
    places = [(np.arange(px) + 0.5) * 2 / px - 1 for px in (trace_px, kernel_px)]
    columns = traced.sum(0), found.sum(0)
    before, after = (light @ place / light.sum() for light, place in zip(columns, places, strict=True))
    assert after == pytest.approx(before, abs=1e-4)
    variances = [light @ (place - before) ** 2 for light, place in zip(columns, places, strict=True)]
    hats = [(2 / px) ** 2 / 6 for px in (trace_px, kernel_px)]  # what is in them of their own filters
    assert variances[1] - variances[0] == pytest.approx(hats[1] - hats[0], abs=1e-4)


@settings(deadline=None)
@given(st.integers(2, 40), st.data())
def test_smoothing_and_its_undoing_keep_sums_and_centres(trace_px, data):
    kernel_px = data.draw(st.integers(1, trace_px))
    samples = fine_px(trace_px, kernel_px, "box")
    both = (sensor_weights(samples, trace_px, kernel_px, name) for name in ("box", "triangle"))
    for weights in (smooth_weights(samples), *both):
        # Every column has one sum, so what comes out has the sum of what went in, but for one factor.
        np.testing.assert_allclose(weights.sum(0), weights.sum(0).mean())
        np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-9 * np.abs(weights).max())
