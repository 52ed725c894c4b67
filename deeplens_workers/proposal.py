"""Pixels and windows that suit a lens' spots, for a user who names neither."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from deeplens_workers.lens_data import LensData
from deeplens_workers.lens_file import LensFile
from deeplens_workers.pupil import find_pupils
from deeplens_workers.raytrace import RayTracer
from deeplens_workers.sampling import sobol
from deeplens_workers.splat import disc_points
from deeplens_workers.threads import one_thread
from spaces.errors import SpaceError

FIELDS = 7  # from the centre to the corner
RAYS = 2048
# A window may lose 0.5 % of a spot's rays, half of `dataset.LOST_LIMIT`. Of its T pixels the outer halves at its rim catch none.
HELD = 0.995
TRACE_PX = 64
# Pixels across a window, at most: more are no kernel but a picture.
MOST_PX = 1024
DIGITS = 2  # of a proposed pitch


class Proposal(NamedTuple):
    """Pixel pitch in um, side of the traced window in pixels, and of one that holds the largest spot in um."""

    pixel_pitch_um: float
    trace_px: int
    spot_um: float


def propose(data: LensData, lens: LensFile) -> Proposal:
    """Pixels and window such that the window holds the largest spot.

    Args:
        data: `depths_mm` and `wavelengths_um` are given; a pitch or a side that is given is kept.

    Raises:
        SpaceError: no light reaches the sensor, or the window would have too many pixels.
    """
    try:
        side_um = 1e3 * _window_mm(data, lens)
    except ValueError as error:
        raise SpaceError(str(error)) from None
    if data.pixel_pitch_um and data.trace_px:
        return Proposal(data.pixel_pitch_um, data.trace_px, side_um)
    if data.pixel_pitch_um:
        side = max(math.ceil(side_um / data.pixel_pitch_um) + 1, data.kernel_px)
        if side > MOST_PX:
            raise SpaceError(
                f"data.pixel_pitch_um: the largest spot of {lens.name} is {side_um:.4g} um wide, {side} pixels of "
                f"{data.pixel_pitch_um:g} um; raise it, or set data.trace_px (at most {MOST_PX} is proposed)"
            )
        return Proposal(data.pixel_pitch_um, side, side_um)
    side = data.trace_px or max(TRACE_PX, data.kernel_px)
    return Proposal(_rounded_up(side_um / (side - 1)), side, side_um)


def _rounded_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - DIGITS + 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.{DIGITS}g}")


def _window_mm(data: LensData, lens: LensFile) -> float:
    """Side of the window about the chief ray that holds nearly all rays of every spot; of a diffraction spot, at least."""
    tracer = RayTracer(lens, pixel_pitch_um=1.0)
    waves = np.array([wave for channel in data.channels() for wave, _ in channel])
    along = np.linspace(0, 1, FIELDS)
    disc = disc_points(sobol(RAYS), np.zeros(2, np.uint32))
    reach = 0.0
    depths = {min(data.depths_mm), max(data.depths_mm)}
    focuses = {min(data.focus_mm), max(data.focus_mm)} if data.focus_mm else {None}
    with torch.inference_mode(), one_thread():
        for depth, focus in product(depths, focuses):
            tracer.focus(focus)
            places = tracer.object_points(np.stack([along, along, np.full(FIELDS, depth)], axis=1))
            objects, lights = np.repeat(places, len(waves), axis=0), np.tile(waves, FIELDS)
            pupils = find_pupils(tracer, objects, lights, symmetric=False)
            primary = tracer.chief_rays(
                places, np.full(FIELDS, tracer.primary_um), pupils.take(slice(None, None, len(waves)))
            )
            centers = tracer.or_pinhole(primary, places) if data.centre != "pinhole" else tracer.pinhole_images(places)
            hits, valid = tracer.hits(objects, pupils.place(disc), lights)
            apart = np.abs(hits - np.repeat(centers, len(waves), axis=0)[:, None]).max(axis=-1)
            for row, (spot, reached) in enumerate(zip(apart, valid, strict=True)):
                if not reached.any():
                    where = along[row // len(waves)]
                    raise ValueError(
                        f"lens {lens.name}: no light of objects at {depth:g} mm reaches {where:.2g} of the sensor's half-diagonal; "
                        "give a smaller data.sensor_mm, or check the openings"
                    )
                reach = max(reach, float(np.quantile(spot[reached], HELD)))
    f_number = lens.conditions.f_number or 1.0
    return max(2 * reach, 2.44e-3 * float(waves.max()) * f_number)
