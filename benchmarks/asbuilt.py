"""As-built units of the Cooke triplet: the error of a model of units from a few PSFs, beside what one would do without it.

    python -m benchmarks.asbuilt
    python -m benchmarks.asbuilt --units 100 1000 10000 --steps 6000
    python -m benchmarks.asbuilt --units 200 --steps 1000 --set data.depths_mm=[-10000,-20000,-5000]

The space's given trial is trained on so many units; the last number of units is the one that the table is of. `asbuilt_ratio` is
its error from 4 observed PSFs over that of the nominal lens. `population_passed` is the share of quantities and places at which
units that the model draws are not told apart from traced ones (p > 0.05), `traced_passed` that of other traced units.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._shared import Options, prepared, the_study
from deeplens_workers.asbuilt_data import OBSERVED, AsBuiltData
from deeplens_workers.asbuilt_preparation import observed_points
from deeplens_workers.tolerances import draw
from spaces.study import Study
from spaces.system import Source
from trainables.asbuilt.data import AsBuiltTest
from trainables.asbuilt.energy import EnergyDistance
from trainables.asbuilt.evaluation import coverage, name_of
from trainables.asbuilt.learner import AsBuiltLearner
from trainables.asbuilt.quantities import QUANTITIES
from trainables.psf.data import select
from trainables.training.loop import train
from trainables.training.task import TrainingTask

PLACES = (0, 6, 12, 10)  # of the observed grid: the corner, half way to it, the centre, the edge
TINY = (
    "data.rays=64",
    "data.held_out_rays=512",
    "data.validation_units=3",
    "data.test_units=3",
    "data.held_out_positions=3",
    "data.kernel_px=16",
    "data.tolerances.index=0",
    "data.tolerances.abbe_percent=0",
    "data.tolerances.space_um=0",
)


def trained(study: Study, data: Any, steps: int, seed: int, directory: str) -> tuple[Any, float]:
    """The network of the space's given trial, and the seconds that it took."""
    trial = study.trial(study.first_trials()[1])
    began = time.perf_counter()
    task = TrainingTask(
        study.model, trial, seed, steps, (steps,), directory, metric=study.objective.metric, mode=study.objective.mode
    )
    (report,) = train(task, AsBuiltLearner(), data)
    assert report.network is not None
    return report.network.eval(), time.perf_counter() - began


def population(
    study: Study, source: Source, sets: dict[str, str], test: AsBuiltTest, network: Any, arguments: argparse.Namespace
) -> None:
    """Units that the model draws against units that are traced: energy distances of what they do at four places."""
    from deeplens_workers.asbuilt_preparation import tracings, unit_focus
    from deeplens_workers.kernels import Units
    from deeplens_workers.preparation import lens_of
    from deeplens_workers.render import load

    data, count = study.data, arguments.population
    assert isinstance(data, AsBuiltData)
    renderer, places = load(lens_of(source), data.pixel_pitch_um), list(PLACES)
    at = observed_points(data)[places]
    values = draw(data.tolerances, count, arguments.seed, "population", test.units.units.shape[1])
    units = Units(data.tolerances, values, unit_focus(data))
    kernels = renderer.render_units(np.tile(at, (count, 1)), tracings(data)[0], units).kernels
    traced = torch.from_numpy(kernels).unflatten(0, (count, len(places)))
    AsBuiltLearner().complete(network, sets)
    drawn = network.sample_units(count, torch.Generator().manual_seed(arguments.seed)).predict(
        select(at, network.config.conditions)
    )
    others = test.units.kernels[:, places]
    print(
        f"{count} drawn units, and {len(others)} other traced ones, against {count} traced ones: energy distance [95 %] (p)"
    )
    passed: dict[str, list[bool]] = {"drawn": [], "traced": []}
    for name, quantity in QUANTITIES.items():
        for place, (x, y) in enumerate(at[:, :2]):
            known, model, again = (quantity(one[:, place]).mean(dim=1).numpy() for one in (traced, drawn, others))
            found = {"drawn": EnergyDistance.of(model, known), "traced": EnergyDistance.of(again, known)}
            words = ", ".join(
                f"{who} {one.distance:.3f} [{one.low:.3f}, {one.high:.3f}] (p {one.p:.2f})"
                for who, one in found.items()
            )
            print(f"{name:12} at ({x:.2f}, {y:.2f}): {words}")
            for who, one in found.items():
                passed[who].append(one.p > 0.05)
    print(f"population_passed={np.mean(passed['drawn']):.2f} traced_passed={np.mean(passed['traced']):.2f}")


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--units", type=int, nargs="+", default=[300, 1000], help="to train on (%(default)s)")
    options.add_size("--steps", 4000, 12, "of training, whatever the number of units")
    options.add_size(
        "--fit-seconds", 120, 1, "for tolerances fitted through the tracer, and for the decoder that knows them"
    )
    options.add_size("--population", 500, 6, "units that the model draws, and as many traced ones")
    options.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="values of the space, as in psf-search run"
    )
    options.add_argument("--cache", type=Path, help="directory of rendered kernels; a temporary one if not given")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse()
    if arguments.tiny:
        arguments.units = [6, 8]
    with tempfile.TemporaryDirectory() as directory:
        run(arguments, arguments.cache or Path(directory, "cache"), directory)


def run(arguments: argparse.Namespace, cache: Path, directory: str) -> None:
    learner = AsBuiltLearner()
    for count in arguments.units:
        tiny = TINY if arguments.tiny else ()
        study, source = the_study(False, f"data.units={count}", *tiny, *arguments.set, space="cvae_asbuilt")
        sets = prepared(study, source, cache, 0)
        data, test = learner.open(sets), learner.open_test(sets)
        network, seconds = trained(study, data, arguments.steps, arguments.seed, f"{directory}/{count}")
        model = learner.judge(network, test)
        errors = ", ".join(f"{n}: {float(model.errors[name_of(n)].mean()):.4f}" for n in OBSERVED)
        print(f"{count} units, {arguments.steps} steps in {seconds:.0f} s: {errors} from so many PSFs")
    for name, quantity in QUANTITIES.items():
        shares = (f"{n}: {float(coverage(network, test.units, n, quantity).mean()):.3f}" for n in OBSERVED)
        print(f"share of {name} inside its 90 % range, from so many PSFs: {', '.join(shares)}")
    rivals = learner.baselines(sets, test, network)
    rivals |= learner.alternatives(sets, test, study, source, network, arguments.fit_seconds * 2)
    titles = {one.name: one.title for one in study.system.baselines}
    print(f"{'':36}{'rel. L2':>9}{'sem':>8}{'units':>7}{'s per unit':>12}{'MB':>8}{'training s':>12}")
    for name, one in {"model, 4 PSFs": model, **rivals}.items():
        error = one.errors["rel_l2"]
        spread = float(error.std() / len(error) ** 0.5)
        print(
            f"{titles.get(name, name):36}{float(error.mean()):9.4f}{spread:8.4f}{len(error):7}{one.seconds:12.4f}"
            f"{one.bytes / 1e6:8.2f}{seconds if one is model else one.training:12.0f}"
        )
    ratio = float(model.errors["rel_l2"].mean() / rivals["nominal"].errors["rel_l2"].mean())
    print(f"asbuilt_ratio={ratio:.4f}")
    population(study, source, sets, test, network, arguments)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
