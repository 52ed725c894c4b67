"""Sides that networks and losses take."""

import pytest

from trainables.sizes import check_size, check_ssim, halvings


@pytest.mark.parametrize(("px", "nearest"), [(30, 32), (29, 28), (2, 4), (63, 64)])
def test_sizes_that_do_not_halve_are_refused_with_the_nearest(px, nearest):
    with pytest.raises(
        ValueError, match=rf"multiple of 4 for 2 halvings, but got {px}; nearest: {nearest}, and {px} can be"
    ):
        check_size(px, 2)


def test_sizes_that_halve():
    assert [check_size(px, 2) for px in (4, 28, 32, 64)] == [1, 7, 8, 16]


def test_halvings_to_a_latent_of_eight_pixels():
    assert [halvings(px) for px in (32, 64, 128, 256)] == [2, 3, 4, 5]


@pytest.mark.parametrize(("px", "nearest"), [(8, 32), (16, 32), (33, 32), (48, 64), (90, 64), (100, 128)])
def test_other_sizes_are_refused_with_the_nearest(px, nearest):
    with pytest.raises(ValueError, match=f"got {px}; nearest: {nearest}$"):
        halvings(px)


def test_ssim_needs_its_window_at_every_scale():
    check_ssim(11, 1)
    check_ssim(44, 3)
    with pytest.raises(ValueError, match=r"px=32, scales=3\); with 3 scales `px >= 44` must hold"):
        check_ssim(32, 3)
