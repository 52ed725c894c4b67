"""What the card of an exported model of units says."""

from __future__ import annotations

from deeplens_workers.asbuilt_data import AsBuiltData
from spaces.card import Card
from trainables.psf.card import kernel_units


def asbuilt_card(data: AsBuiltData, lens: str) -> Card:
    """The card of a model of a lens' units."""
    tolerances = data.tolerances
    return Card(
        title=f"Model of as-built lenses of {lens}",
        intro="A conditional VAE of all lenses that are made of one design: from 1 to 25 measured PSFs of a unit it gives the PSF "
        f"anywhere on that unit, with an uncertainty; and it draws units. Trained on {data.units:,} traced units"
        f"{', and fresh ones while it trained,' if data.stream is not None else ''} at {data.positions} positions each.",
        usage=(
            "unit = model.fit(kernels, points)  # [n, C, K, K] measured at [n, 2]",
            "psf = unit.predict(torch.tensor([[0.0, 0.5]])); spread = unit.spread(torch.tensor([[0.0, 0.5]]))",
            "lenses = model.sample_units(100)",
        ),
        units=kernel_units(data),
        test=f"Means over {data.test_units} sealed units at {data.held_out_positions} positions each, of which no PSF was observed, "
        f"traced with {data.held_out_rays:,} rays per wavelength.",
        remark="rel. L2 is with 4 observed PSFs; the others name their number.",
        limits=(
            f"Units within the tolerances it was trained on: grade {tolerances.grade}, {tolerances.distribution} deviations, focused "
            f"for objects at {(data.focus_mm or data.depths_mm)[0]:g} mm. A unit that is off by more is fitted wrongly.",
            "Measured kernels must have the model's pixels and wavelengths, and be centred on their chief ray within a pixel.",
        ),
    )
