"""What the card of an exported CVAE says of kernels, units and limits."""

from __future__ import annotations

from deeplens_workers.lens_data import LensData, PixelFilter
from deeplens_workers.psf_data import PsfData
from spaces.card import Card

GATHERED: dict[PixelFilter, str] = {
    "box": "the light that falls on it",
    "triangle": "light by a triangle that reaches to its neighbours' centres, as in DeepLens",
}
"""What a pixel of each filter does, in words."""


def psf_card(data: PsfData, lens: str) -> Card:
    """The card of a model of a lens' kernels."""
    return Card(
        title=f"PSF model of {lens}",
        intro="A conditional VAE that gives the point spread function of this lens at any field position, trained on "
        f"ray-traced kernels at {_grid(data)}.",
        usage=(f"kernels = model.psf([{example_point(data)}])",),
        units=kernel_units(data),
        test=f"Means over {data.kernels()['test']} sealed positions off the training grid, each traced with "
        f"{data.held_out_rays:,} rays per wavelength.",
        remark="Centroid and radius errors are in kernel pixels.",
        limits=_limits(data),
    )


def _grid(data: PsfData) -> str:
    between = data.stream is not None or data.train_points > 0
    places = "random field points" if between else f"{data.grid[0]} x {data.grid[1]} field points"
    focus = f", focused at {_listed(data.focus_mm, between)} mm" if data.focus_mm else ""
    return f"{places} and object depth {_listed(data.depths_mm, between)} mm{focus}"


def _listed(distances: tuple[float, ...], between: bool) -> str:
    if between and len(distances) > 1:
        return f"between {min(distances):g} and {max(distances):g}"
    return ", ".join(f"{distance:g}" for distance in distances)


def example_point(data: LensData) -> str:
    """A point that a model of such data takes."""
    return f"[{', '.join(['0.0', '0.5', *(f'{distances[0]:.1f}' for distances in data.varied.values())])}]"


def kernel_units(data: LensData) -> tuple[str, ...]:
    """What a model's points and kernels are, in words."""
    pixel = data.pixel_pitch_um * data.trace_px / data.kernel_px
    wavelengths = ", ".join("+".join(f"{wavelength:g}" for wavelength, _ in channel) for channel in data.channels())
    return (
        f"in: field points [N, {len(data.conditions)}] = {', '.join(data.conditions)}; x right and y up, normalised to "
        f"half the sensor's width and height{_sensor(data)}, in [-1, 1]{'; distances in mm, negative' if data.conditions[2:] else ''}",
        f"out: kernels [N, {len(data.wavelengths_um)}, {data.kernel_px}, {data.kernel_px}], each channel sums to one; "
        f"channels at {wavelengths} um, in this order",
        f"one kernel pixel is {pixel:.4g} um on the sensor (traced: {data.trace_px} pixels of {data.pixel_pitch_um:g} um across a "
        f"kernel) and gathers {GATHERED[data.pixel_filter]}; row 0 is the top (+y) of the upright image",
    )


def _sensor(data: LensData) -> str:
    """The sensor and the focal length, with which coordinates become millimetres and angles."""
    if data.lens_facts is None:
        return ""
    width, height = data.lens_facts.sensor_mm
    focal = data.lens_facts.focal_length_mm
    return f" ({width:.4g} x {height:.4g} mm{f', focal length {focal:.4g} mm' if focal else ''})"


def _limits(data: PsfData) -> tuple[str, ...]:
    ranges = []
    for what, distances in (("object depth", data.depths_mm), ("focus distance", data.focus_mm)):
        if len(distances) > 1:
            ranges.append(
                f"Each {what} between {min(distances):g} and {max(distances):g} mm; outside, it extrapolates."
            )
        else:
            one = f"{distances[0]:g} mm" if distances else "as in the lens file"
            ranges.append(f"One {what} ({one}); others are not modelled.")
    optics = (
        "Geometric rays: no diffraction." if data.psf_model == "geometric" else f"DeepLens' {data.psf_model} model."
    )
    centre = "chief ray of the primary wavelength, so" if data.recenter else "ideal image point:"
    place = "is not in them" if data.recenter else "shifts them"
    return (
        f"One lens as designed: no tolerances, no other aperture. {optics}",
        *ranges,
        "Field points in [-1, 1]; outside, it extrapolates.",
        f"Kernels are centred on the {centre} distortion {place}, and light outside the traced window is left out.",
        "`predict` is the mean path decode(mu_prior(c)); spread between `sample` draws is no measure of its error.",
    )
