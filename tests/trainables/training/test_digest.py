"""What short trainings report, pinned: a change of what is computed is noticed, wherever it is made.

The values are those of the code before systems were told apart from training, and on one machine both gave the same bits: they
were compared exactly, on this grid and on one with depths, with these and with eight other sets of hyperparameters. Bits differ
between CPUs, by up to 1e-6 between one without vector instructions, AVX2 and AVX-512.
"""

from typing import Any

import pytest

from tests.trainables.training.small import task, trained

PINNED = ("val/prior_rel_l2", "val/kl", "train/loss")
EVERY_TERM: dict[str, Any] = {
    "free_bits": 0.03,
    "kl_weight": 0.3,
    "smooth_weight": 1.0,
    "smooth_term": "kl",
    "decoder_variance": "learned",
    "batch_size": 15,
    "accumulation": 2,
    "grad_clip": 0.5,
}


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        (
            {},
            {
                20: (0.6831212043762207, 11.128186225891113, 0.2645033001899719),
                40: (0.5723594427108765, 12.654642105102539, 0.167234405875206),
            },
        ),
        (
            EVERY_TERM,
            {
                20: (0.683303713798523, 11.73151969909668, -572.2133178710938),
                40: (0.5765184164047241, 13.088064193725586, -626.5482177734375),
            },
        ),
    ],
    ids=["small", "every term"],
)
def test_a_short_training_reports_what_it_always_has(tmp_path, data, changes, digest):
    reports = trained(task(tmp_path, **changes), data)
    for step, values in digest.items():
        assert [reports.metrics[step][name] for name in PINNED] == pytest.approx(list(values), rel=1e-4)
