"""Sides of images, in pixels, that networks and losses can take. No torch: a space file is checked with it."""

from __future__ import annotations

from collections.abc import Callable

LATENT_SIDE = 8
"""Of the latent of `residual`."""
SSIM_WINDOW = 11
"""Pixels across."""


def check_size(px: int, levels: int) -> int:
    """Side in pixels after `levels` halvings.

    Raises:
        ValueError: `px` is no multiple of 2^levels.
    """
    step: int = 2**levels
    if px % step or px < step:
        nearest = max(step, round(px / step) * step)
        possible = next(count for count in range(levels, -1, -1) if px % 2**count == 0)
        raise ValueError(
            f"`px` must be a multiple of {step} for {levels} halvings, but got {px}; nearest: {nearest}, and {px} can be "
            f"halved {possible} times"
        )
    return px // step


def halvings(px: int) -> int:
    """How often a side is halved on its way to `LATENT_SIDE`.

    Raises:
        ValueError: `px` is none of 32, 64, 128, ...
    """
    count = 2  # so that the 16 px that attention sees are no input
    while LATENT_SIDE * 2**count < px:
        count += 1
    side = LATENT_SIDE * 2**count
    if px != side:
        nearest = side if count == 2 or side - px <= px - side // 2 else side // 2
        raise ValueError(
            f"`px` must be 32, 64, 128 or a further double for halvings to {LATENT_SIDE} px, but got {px}; "
            f"nearest: {nearest}"
        )
    return count


def check_ssim(px: int, scales: int) -> None:
    """Whether a loss by SSIM has its whole window at each scale.

    Raises:
        ValueError: it has not.
    """
    if px // 2 ** (scales - 1) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs {SSIM_WINDOW} px at its smallest scale, but got (px={px}, scales={scales}); "
            f"with {scales} scales `px >= {SSIM_WINDOW * 2 ** (scales - 1)}` must hold"
        )


NETWORKS: dict[str, Callable[[int, int], int]] = {
    "mlp": lambda px, levels: px,
    "conv": check_size,
    "resnet": check_size,
    "residual": lambda px, levels: halvings(px),
    "bottleneck": check_size,
}
"""Checks that a network takes images of `px` px with `levels` halvings, if it has such."""
