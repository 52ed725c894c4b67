"""What a stream is made of; how lanes read it is tested in tests/trainables."""

import numpy as np
import pytest

from deeplens_workers.dataset import chunk_points
from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import PsfPreparation, fill_in
from deeplens_workers.psf_data import PsfData
from tests.waiting import wait_until


def streamed(**changes) -> PsfData:
    fields = {
        "lens": "cooke_triplet_50mm",
        "pixel_pitch_um": 3.2,
        "trace_px": 64,
        "wavelengths_um": (0.656, 0.587, 0.486),
        "depths_mm": (-10000, -1000),
        "rays": 2,
        "held_out_rays": 16,
        "stream": {"kernels": 10},
    }
    return PsfData(**(fields | changes))


def test_points_are_a_seeded_sequence_within_the_data_sets_ranges():
    data = streamed(focus_mm=(-10000, -2000))
    chunks = [chunk_points(data, 5, index) for index in range(40)]
    np.testing.assert_array_equal(chunks[3], chunk_points(data, 5, 3))
    assert not np.isin(chunks[0][:, 0], chunk_points(data, 6, 0)[:, 0]).any()
    points = np.concatenate(chunks)
    assert len(np.unique(points, axis=0)) == len(points)
    x, y, depth, focus = points.T
    assert -1 <= x.min() < -0.99 < 0.99 < y.max() <= 1
    assert -10000 <= depth.min() < -9000
    assert -1010 < depth.max() <= -1000
    assert len(set(focus)) == 40  # one for each chunk
    assert -10000 <= focus.min() < focus.max() <= -2000


def test_in_the_meridional_frame_the_same_points_are_on_the_axis():
    data = fill_in(streamed(frame="meridional", sensor_mm=(30, 20)), find_lens("cooke_triplet_50mm", None, (30, 20)))
    turned, on_sensor = chunk_points(data, 5, 2), chunk_points(streamed(), 5, 2)
    np.testing.assert_allclose(turned[:, 0], np.hypot(on_sensor[:, 0], on_sensor[:, 1] * 2 / 3), rtol=1e-6)
    assert (turned[:, 1] == 0).all()
    np.testing.assert_array_equal(turned[:, 2], on_sensor[:, 2])


def test_a_point_without_light_is_told_before_training_and_no_actor_is_left(ray_session):
    from ray.util import list_named_actors

    # A kernel of one small pixel far out of focus: hardly any ray falls into it.
    data = streamed(depths_mm=(-200, -100), pixel_pitch_um=0.01, trace_px=2, kernel_px=1)
    lens = find_lens(data.lens)
    supply = PsfPreparation().supply(data, lens, 0, actors=1)
    with pytest.raises(ValueError, match="no light of field point"), supply:
        pass
    # Renderers end with the stream, as soon as Ray hears of its end.
    wait_until(lambda: not any(str(name).startswith("stream-renderer") for name in list_named_actors()))
