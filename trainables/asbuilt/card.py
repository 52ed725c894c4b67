"""What the card of an exported model of units says."""

from __future__ import annotations

from deeplens_workers.asbuilt_data import AsBuiltData
from spaces.card import Card
from trainables.psf.card import example_point, kernel_units


def asbuilt_card(data: AsBuiltData, lens: str) -> Card:
    """The card of a model of a lens' units."""
    tolerances, point = data.tolerances, example_point(data)
    return Card(
        title=f"Model of as-built lenses of {lens}",
        intro="A conditional VAE of all lenses that are made of one design: from 1 to 25 measured PSFs of a unit it gives the PSF "
        f"anywhere on that unit, with an uncertainty; and it draws units. Trained on {data.units:,} traced units"
        f"{', and fresh ones while it trained,' if data.stream is not None else ''} at {data.positions} positions each.",
        usage=(
            f"unit = model.fit(kernels, points)  # [n, C, K, K] measured at [n, {len(data.conditions)}]",
            f"psf = unit.predict(torch.tensor([{point}])); spread = unit.spread(torch.tensor([{point}]))",
            "lenses = model.sample_units(100)",
        ),
        units=kernel_units(data),
        test=f"Means over {data.test_units} sealed units, each judged at {data.held_out_positions} positions other than those at which "
        f"its PSFs were observed; traced with {data.held_out_rays:,} rays per wavelength.",
        remark=f"rel. L2 is with 4 observed PSFs; the others name their number.{_observed(data)}",
        limits=(
            f"Units within the tolerances it was trained on: grade {tolerances.grade}, {tolerances.distribution} deviations, focused "
            f"for objects at {_focused(data)} mm. A unit that is off by more is fitted wrongly.",
            *(
                f"{name} from {min(ends):g} to {max(ends):g} mm; others are refused."
                for name, ends in data.varied.items()
            ),
            "Measured kernels must have the model's pixels and wavelengths. `fit` centres them by the light of their middle channel.",
        ),
    )


def _observed(data: AsBuiltData) -> str:
    if not data.varied:
        return ""
    at = " and ".join(f"{name} {distances[0]:g}" for name, distances in data.varied.items())
    return f" All were observed at {at}; interpolation of them knows no other distance, and is not in the table."


def _focused(data: AsBuiltData) -> str:
    if len(data.focus_mm) > 1:
        return f"{min(data.focus_mm):g} to {max(data.focus_mm):g}"
    return f"{(data.focus_mm or data.depths_mm)[0]:g}"
