import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplens_workers.pooling import area_weights


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
