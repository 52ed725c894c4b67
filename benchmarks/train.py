"""Claim: a lane trains as fast as a plain loop: what surrounds its steps (evaluation, checkpoints, reports) costs under 5 %.

The network and batch are those of the source document (hidden 512, latent 128, batch 64) on the main job's data set. The plain
loop, in this file, has nothing but the steps. It and a lane of one worker with the whole machine are measured in turns, several
times; then two lanes of one worker, and one lane of two. `--search` runs a search of so many trials and reports how much of the
lanes' time was training.

    python -m benchmarks.train
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import ray
import torch

from benchmarks._shared import TINY_DATA, Options, prepared, the_study
from results.analysis import efficiency
from results.records import read_trials
from results.run_directory import RunDirectory
from search.machine import machine
from search.process import start_ray
from trainables.lanes.board import Assignment, Report
from trainables.lanes.lane import MEMORY
from trainables.lanes.lanes import Lanes
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.data import PsfTensors
from trainables.psf.trial import CvaePsfTrial
from trainables.training.losses import Ranks
from trainables.training.squared_error import squared_error_loss
from trainables.training.state import AVERAGE_EVERY, BETAS, moving_average
from trainables.training.step import multiplies_bfloat16
from trainables.training.task import TrainingTask

BUDGET = 100_000  # document 000's steps
REPORT_EVERY = 280  # the standard preset's
WARM_UP = 20
TINY_SEARCH = (*TINY_DATA, "budget.quick.steps=240")


def plain(trial: CvaePsfTrial, sets: dict[str, str], steps: int) -> float:
    """`plain_loop` in a process of its own, without Ray."""
    os.environ.update(MEMORY)  # of the new process: glibc reads it at its start
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(plain_loop, trial, sets, steps).result()


def plain_loop(trial: CvaePsfTrial, sets: dict[str, str], steps: int) -> float:
    """Steps per second of the same mathematics with nothing around it, on all CPUs and with a lane's settings of memory."""
    torch.set_num_threads(machine().cpus)
    data = PsfTensors.load(sets["train"], sets["validation"])
    count, channels, side, _ = data.train.kernels.shape
    torch.manual_seed(0)
    model = CVAE(CvaeConfig.of(trial, channels=channels, kernel_px=side, diopter_ranges=data.diopter_ranges))
    optimizer = torch.optim.AdamW(model.parameters(), lr=trial.learning_rate, betas=BETAS, fused=True)
    average = moving_average(model, trial.ema_width)
    mixed = multiplies_bfloat16(data.device) if trial.precision == "auto" else trial.precision == "bfloat16"
    parameters = list(model.parameters())

    def step(number: int) -> None:
        batch = torch.randint(count, (trial.batch_size,))
        noise = torch.randn(trial.batch_size, trial.latent_dim)
        pairs = data.pairs[torch.randint(len(data.pairs), (trial.smooth_pairs,))].movedim(1, 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            terms = model(data.train.kernels[batch], data.train.points[batch], noise, pairs, trial.smooth_term)
        loss = squared_error_loss(trial, terms, trial.smooth_pairs, trial.kl_weight, Ranks())["loss"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if norm > trial.grad_clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, trial.grad_clip, norm)
        optimizer.step()
        if number % AVERAGE_EVERY == 0:
            average.update_parameters(model)

    for number in range(WARM_UP):
        step(number)
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    return steps / (time.perf_counter() - began)


class LaneTraining:
    """Assignments for lanes, timed from the first report to the last, so that neither start-up nor a trial's set-up counts."""

    def __init__(self, trial: CvaePsfTrial, sets: dict[str, str], root: Path, steps: int) -> None:
        self._trial, self._sets, self._root, self._steps = trial, sets, root, steps

    def measure(self, lanes: Lanes, at_once: int) -> float:
        """Steps per second of all lanes together, everything around the steps included."""
        heard: dict[str, list[tuple[int, float]]] = {}

        def reported(assignment: Assignment, report: Report) -> None:
            assert report.failure is None, report.failure
            heard.setdefault(assignment.attempt, []).append((report.step, time.perf_counter()))

        lanes.train([self._assignment() for _ in range(at_once)], reported)
        return sum((last - first) / (then - began) for (first, began), *_, (last, then) in heard.values())

    def _assignment(self) -> Assignment:
        attempt = uuid.uuid4().hex
        every = min(REPORT_EVERY, self._steps)
        steps = [WARM_UP, *range(every, self._steps + 1, every)]
        task = TrainingTask(
            system="cvae_psf",
            trial=self._trial,
            seed=0,
            steps=steps[-1],
            report_steps=tuple(steps),
            directory=str(self._root / attempt),
            metric="val/prior_rel_l2",
            mode="min",
            sets=self._sets,
            events=str(self._root / attempt / "events"),
        )
        return Assignment(attempt, uuid.UUID(attempt).int % 10**6, task)


def peak_memory() -> dict[str, int]:
    """Largest resident memory so far in MiB of every training worker, by process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"TrainWorker" in (path / "cmdline").read_bytes():
                lines = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
                found[path.name] = int(lines["VmHWM"].split()[0]) // 1024
        except (OSError, KeyError):
            continue
    return found


def busy_fraction(trials: int, cache: Path, settings: list[str]) -> tuple[float, float]:
    """Share of lane time that is training while trials run, and seconds of the whole search of the quick preset."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, str(Path(__file__).parents[1] / "search" / "run.py")]
        options = [
            "--space",
            "cvae_psf",
            "--preset",
            "quick",
            "--trials",
            str(trials),
            "--name",
            "busy",
            "--out",
            folder,
        ]
        changes = [part for setting in [*settings, "budget.quick.finalists=0"] for part in ("--set", setting)]
        began = time.perf_counter()
        subprocess.run([*program, *options, "--cache", str(cache.resolve()), *changes], check=True)
        seconds = time.perf_counter() - began
        busy = efficiency(read_trials(RunDirectory(Path(folder) / "busy")))
    assert busy is not None
    return busy.share, seconds


def main() -> None:
    options = Options(__doc__)
    options.add_size("--steps", 10 * REPORT_EVERY, 2 * WARM_UP, "steps of each measurement")
    options.add_size("--rounds", 3, 1, "measurements of the plain loop and of the lane, in turns")
    options.add_size("--search", 0, 2, "trials of a search to run as well")
    options.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    options.add_argument("--cache", type=Path, default=Path("results/cache"))
    arguments = options.parse()
    cpus = machine().cpus
    study, source = the_study(arguments.tiny)
    trial = study.trial({**study.first_trials()[1], "precision": arguments.precision})
    assert isinstance(trial, CvaePsfTrial)
    start_ray(num_cpus=2 * cpus, include_dashboard=False)
    sets = prepared(study, source, arguments.cache, actors=cpus)
    rows: list[tuple[str, float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lane_training = LaneTraining(trial, sets, root, arguments.steps)

        def lanes(count: int, workers: int, threads: int) -> Lanes:
            storage = root / f"{count}x{workers}"
            return Lanes(lanes=count, workers=workers, cpus=threads, gpus=0, storage=storage)

        with lanes(1, 1, cpus) as one:
            one.wait_ready()
            turns = [
                (plain(trial, sets, arguments.steps), lane_training.measure(one, 1)) for _ in range(arguments.rounds)
            ]
            rows.append(
                (f"1 x lane of 1, {cpus} threads", median(lane for _, lane in turns), sum(peak_memory().values()))
            )
        for count, workers in ((2, 1), (1, 2)):
            with lanes(count, workers, 1) as some:
                some.wait_ready()
                speed = median(lane_training.measure(some, count) for _ in range(arguments.rounds))
                rows.append((f"{count} x lane of {workers}, 1 thread each", speed, sum(peak_memory().values())))
    ray.shutdown()
    print(f"{'':34}{'steps/s':>9}{'peak MiB':>10}")
    print(f"{f'plain loop, {cpus} threads':34}{median(alone for alone, _ in turns):9.1f}")
    for name, speed, memory in rows:
        print(f"{name:34}{speed:9.1f}{memory:10}")
    print(f"minutes for {BUDGET:,} steps on one lane: {BUDGET / rows[0][1] / 60:.1f}")
    if arguments.search:
        settings = [f"fixed.precision={arguments.precision}", *(TINY_SEARCH if arguments.tiny else ())]
        fraction, seconds = busy_fraction(arguments.search, arguments.cache, settings)
        print(f"search of {arguments.search} trials: {seconds:.0f} s; busy={fraction:.3f}")
    print(f"lane_to_raw={median(lane / alone for alone, lane in turns):.3f}")


if __name__ == "__main__":
    main()
