"""As-built units of the Cooke triplet: the error of a model of units from a few PSFs, beside what one would do without it.

    python -m benchmarks.asbuilt
    python -m benchmarks.asbuilt --units 100 1000 10000 --steps 6000

The space's given trial is trained on so many units; the last number of units is the one that the table is of. `asbuilt_ratio` is
its error from 4 observed PSFs over that of the nominal lens.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._shared import Options, prepared, the_study
from spaces.study import Study
from trainables.asbuilt.data import OBSERVED
from trainables.asbuilt.evaluation import coverage, name_of
from trainables.asbuilt.learner import AsBuiltLearner
from trainables.training.loop import train
from trainables.training.task import TrainingTask

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


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--units", type=int, nargs="+", default=[300, 1000], help="to train on (%(default)s)")
    options.add_size("--steps", 4000, 12, "of training, whatever the number of units")
    options.add_size(
        "--fit-seconds", 120, 1, "for tolerances fitted through the tracer, and for the decoder that knows them"
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
        study, source = the_study(False, f"data.units={count}", *tiny, space="cvae_asbuilt")
        sets = prepared(study, source, cache, 0)
        data, test = learner.open(sets), learner.open_test(sets)
        network, seconds = trained(study, data, arguments.steps, arguments.seed, f"{directory}/{count}")
        model = learner.judge(network, test)
        errors = ", ".join(f"{n}: {float(model.errors[name_of(n)].mean()):.4f}" for n in OBSERVED)
        covered = float(coverage(network, test.units).mean())
        print(
            f"{count} units, {arguments.steps} steps in {seconds:.0f} s: {errors} from so many PSFs; coverage {covered:.3f}"
        )
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
