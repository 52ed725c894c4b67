"""Traced kernels become those of a model, as `W @ kernel @ W.T`: linear maps with a weight for each pair of samples.

A pixel is a square, which turned by 30 degrees is none. So a kernel that is to be turned is kept as samples of the light's
density, smoothed by a Gaussian that looks the same from every side; after the turn, `sensor_weights` make of the Gaussian
what a pixel gathers.

T = traced pixels along a side, K = model pixels, M = samples of a smoothed kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.lens_data import PixelFilter

Array = NDArray[np.float64]

SMOOTHING = 0.9
"""Standard deviation of the Gaussian, in samples. Less aliases; more is noise once it is divided out again. Measured on the
triplet, 32 px kernels from 128 samples turned to random azimuths: relative L2 0.0075 with 0.6, 0.0078 with 0.9, 0.029 with
1.2; through 192 principal components 0.0185, 0.0131, 0.031, for a smoother kernel has fewer."""

BOX_RAMP = 1 / 8
"""Width of the edges of a box that is not pooled, in sides of a pixel. Sharp edges make a sum over rays rough. Measured on the
triplet with 6.4 um pixels, relative L2 from sharp ones, and noise with 4,096 and 32,768 rays: none 0, 0.029, 0.0055; 1/8 0.007,
0.018, 0.0019; 1/4 0.021, 0.013, 0.0012; 1/2 0.064, 0.010, 0.0008; 1, which is a triangle, 0.18, 0.007, 0.0006."""


def area_weights(traced: int, pooled: int) -> Array:
    """Weights W [K, T] with W[k, t] = the share of traced pixel t that lies in model pixel k.

    A kernel pools as `W @ kernel @ W.T`. Columns sum to one, so energy is conserved exactly; pixels on a border are
    split in proportion to the overlap, so no light is counted twice (adaptive average pooling has overlapping bins
    for 64 -> 15).
    """
    _check_pooling(traced, pooled)
    edges = np.arange(pooled + 1) * (traced / pooled)
    pixel = np.arange(traced)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(overlap, 0.0, None)
    return np.asarray(weights / weights.sum(0))


def fine_px(trace_px: int, kernel_px: int, pixel_filter: PixelFilter) -> int:
    """Samples M of a kernel that is to be turned: two at least for each traced pixel, four for each of the model, eight for one
    that is a box and not pooled.

    Measured as above, relative L2 after a turn, 64 traced pixels pooled to 32: 0.0078 with 128 samples, 0.012 with 96, 0.021
    with 80, 0.03 with 64; to 15, sharp kernels in focus: 0.0032 with 128, 0.0067 with 90, 0.02 with 60; not pooled: 0.025
    with 128. Boxes of 6.4 um that are not pooled: 0.0105 with eight samples for each, 0.02 with six, 0.038 with four.
    """
    sharp = pixel_filter == "box" and trace_px == kernel_px
    return max(2 * trace_px, (8 if sharp else 4) * kernel_px)


def smooth_weights(samples: int) -> Array:
    """Weights [M, M]: samples of the density under as many traced pixels, smoothed by the Gaussian.

    The hat over which a traced ray is spread (deeplens_workers/splat.py) is divided out.
    """
    frequency = np.fft.fftfreq(samples)
    return _resampled(samples, samples, _gaussian(frequency) / np.sinc(frequency) ** 2)


def triangle_weights(traced: int, pooled: int) -> Array:
    """Weights W [K, T] that make model pixels with a triangle of traced ones, whose own hats are divided out.

    Columns sum to one, up to the highest frequency that traced pixels have. Light within half a model pixel of the window's
    border comes out half at the opposite one.
    """
    _check_pooling(traced, pooled)
    frequency = np.fft.fftfreq(traced)
    transfer = np.sinc(frequency * traced / pooled) ** 2 / np.sinc(frequency) ** 2
    return traced / pooled * _resampled(traced, pooled, transfer)


def sensor_weights(samples: int, traced: int, pooled: int, pixel_filter: PixelFilter) -> Array:
    """Weights [K, M]: model pixels of a smoothed and, by then, turned kernel, as those are that are traced on the sensor.

    These are T traced ones pooled to K, for a box.
    """
    _check_pooling(traced, pooled)
    frequency = np.fft.fftfreq(samples)
    blurred = _gaussian(frequency)
    if pixel_filter == "box" and traced > pooled:
        hat = np.sinc(frequency * samples / traced) ** 2
        return area_weights(traced, pooled) @ _resampled(samples, traced, hat / blurred)
    cycles = frequency * samples / pooled  # per model pixel
    ramp = BOX_RAMP if pixel_filter == "box" else 1.0
    return _resampled(samples, pooled, np.sinc(cycles) * np.sinc(ramp * cycles) / blurred)


def _check_pooling(traced: int, pooled: int) -> None:
    if not 1 <= pooled <= traced:
        raise ValueError(f"`1 <= pooled <= traced` must hold, but got (pooled={pooled}, traced={traced})")


def _gaussian(frequency: Array) -> Array:
    """Its transfer at frequencies in cycles per sample."""
    return np.asarray(np.exp(-2 * (np.pi * SMOOTHING * frequency) ** 2))


def _resampled(before: int, after: int, transfer: Array) -> Array:
    """[after, before]: as many samples over the same length, both centred, of a periodic signal filtered by `transfer`."""
    frequency = np.fft.fftfreq(before)
    places = (np.arange(after) - (after - 1) / 2) * before / after + (before - 1) / 2
    back = np.exp(2j * np.pi * np.outer(places, frequency)) * transfer / before
    return np.asarray((back @ np.exp(-2j * np.pi * np.outer(frequency, np.arange(before)))).real)
