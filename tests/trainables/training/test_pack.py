"""Packs: trainings in one process that come and go end as each would alone, to rounding."""

import logging
import math
import threading
from contextlib import closing
from typing import Any

import pytest
import torch

from tests.trainables.knobs import cases
from tests.trainables.packs import LEAST, batched, distance, steps_of
from tests.trainables.psf.synthetic import newest, tensors
from tests.trainables.training.small import LEARNER, METRIC, TIMING, TRIAL, Reports, task, trained
from tests.trainables.training.test_cuda_graphs import repeated, warnings_of
from tests.trainables.training.test_knobs import KNOBS
from trainables.packing import Packing
from trainables.psf.learner import CvaePsfLearner
from trainables.training.cuda_graphs import StepGraph
from trainables.training.loop import NonFiniteError, train
from trainables.training.pack import Pack
from trainables.training.step import Step
from trainables.training.totals import Totals

STEPS = 200
ROUNDING = 1e-3
"""Of float32 over so many steps, as a part of the largest weight; 1e-6 to 2e-4 is what there is."""
COARSE = {"bfloat16": 0.2}
EQUAL = {
    "kl_reduction", "free_bits_per", "smooth_term", "smooth_pairs", "decoder_variance", "network", "prior",
    "encoder_layers", "defocus", "components", "base_width", "upsampling", "norm", "accumulation", "precision",
}  # fmt: skip
"""Hyperparameters that are the same for all trainings of a batch."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder, distances = tmp_path_factory.mktemp("data"), (-10000.0, -2000.0)
    return {
        "plain": tensors(folder / "plain"),
        "halvable": tensors(folder / "halvable", kernel_px=16),
        "focused": tensors(folder / "focused", depths=distances, focus=distances),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), cases(KNOBS))
def test_an_option_is_batched_with_itself_and_where_it_may_differ_with_others(sets, name, value):
    others = KNOBS[name][0]
    convolutions = "conv" in (value, others.get("network"))
    data = sets[{"defocus": "focused"}.get(name, "halvable" if convolutions else "plain")]
    # Before batch normalisation a bias has gradients that are nothing but rounding, of which Adam makes whole steps.
    base = TRIAL.model_copy(update={"optimizer": "sgd", "learning_rate": 1e-5} if convolutions else {})
    plain, changed = (base.model_copy(update=one) for one in (others, {**others, name: value}))
    seed = changed.model_copy(update={"learning_rate": changed.learning_rate / 2})
    assert batched(LEARNER, data, [changed, seed])
    assert batched(LEARNER, data, [changed, plain]) == (name not in EQUAL)
    members = [changed, seed] if name in EQUAL else [changed, seed, plain]
    assert distance(LEARNER, data, members, STEPS) < COARSE.get(value, ROUNDING)


def test_unequal_widths_are_padded(sets):
    changes: list[dict[str, Any]] = [
        {"hidden_dim": 24, "latent_dim": 3, "free_bits": 0.1, "kl_weight": 0.1},
        {"hidden_dim": 32, "latent_dim": 7, "fourier_bands": 5, "num_layers": 3, "batch_size": 8},
        {"hidden_dim": 40, "fourier_bands": 0, "num_layers": 1, "learning_rate": 1e-3, "smooth_weight": 1.0},
    ]
    trials = [TRIAL.model_copy(update=one) for one in changes]
    assert batched(LEARNER, sets["plain"], trials)
    assert distance(LEARNER, sets["plain"], trials, 40) < ROUNDING


def test_trainings_of_one_pack_end_as_each_alone(tmp_path, sets):
    """They differ in budget, so that some are there longer than others, and one is not like them; another is stopped, and begun anew."""
    data = sets["plain"]
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"seed": 2, "steps": 60, "hidden_dim": 24},
        {"seed": 3, "accumulation": 2},
        {"seed": 4},
    ]
    alone = [trained(task(tmp_path / f"alone-{i}", **one), data) for i, one in enumerate(changes)]
    pack, heard = Pack(), [Reports() for _ in changes]

    def run(i: int, stop_at: int | None) -> None:
        with closing(train(task(tmp_path / f"pack-{i}", **changes[i]), LEARNER, data, pack=pack)) as reports:
            for report in reports:
                heard[i].add(report)
                if report.step == stop_at:
                    break

    def stopped_and_begun_anew(i: int) -> None:
        run(i, 20)
        run(i, None)

    threads = [threading.Thread(target=run, args=(i, None)) for i in range(3)]
    threads.append(threading.Thread(target=stopped_and_begun_anew, args=(3,)))
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for i, expected in enumerate(alone):
        assert heard[i].last == expected.last
        assert set(heard[i].steps) == set(expected.steps)
        for step in expected.steps:
            ours, theirs = ({k: v for k, v in one.metrics[step].items() if k != TIMING} for one in (heard[i], expected))
            assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-6)
        a, b = (newest(tmp_path / f"{how}-{i}" / "checkpoints").tensors for how in ("alone", "pack"))
        assert all(torch.allclose(a[name], b[name], rtol=1e-2, atol=1e-4) for name in a if name.startswith("model."))


def together(pack: Pack, steps: list[Step], parts: list[tuple[int, int]]) -> list[Totals]:
    """Make some parts of each training's steps, from a thread each."""
    sums = [Totals() for _ in steps]

    def run(step: Step, totals: Totals) -> None:
        for first, last in parts:
            pack.run(step, first, last, lambda number: (step.trial.learning_rate, 0.5), totals)
            pack.leave(step)
        pack.forget(step)

    threads = [threading.Thread(target=run, args=both) for both in zip(steps, sums, strict=True)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return sums


def same_steps(learner: Any, data: Any, graphs: bool, rounding: float, **changes: Any) -> None:
    """Steps in a pack are those of each training alone."""
    count, changes = 40, {"target_rate": 1.0, **changes}
    trials = [TRIAL.model_copy(update={"learning_rate": 2.0**-n, **changes}) for n in (9, 10, 11)]
    alone, members = steps_of(LEARNER, data, trials), steps_of(learner, data, trials)
    for member in members:
        member.graph = StepGraph([member.state], repeated, shared=True) if graphs else None
    sums = together(Pack(), members, [(1, 25), (26, count)])
    for one, member, found in zip(alone, members, sums, strict=True):
        expected = Totals()
        for number in range(1, count + 1):
            expected.add(one(number, one.trial.learning_rate, 0.5))
        assert found.means(1) == pytest.approx(expected.means(1), rel=rounding, abs=rounding * LEAST)
        ours, theirs = ({k: v for k, v in step.state.tensors().items() if k != "generator"} for step in (member, one))
        assert all(torch.allclose(ours[name], theirs[name], rtol=rounding, atol=rounding * LEAST) for name in theirs)
        assert torch.equal(member.state.generator.get_state(), one.state.generator.get_state())


def test_graphs_of_a_pack_make_the_steps_of_each(sets, caplog):
    caplog.set_level(logging.DEBUG)
    same_steps(LEARNER, sets["plain"], True, 1e-2)
    assert "steps are made by a CUDA graph" in caplog.messages


class Unbatched(CvaePsfLearner):
    """Looks at a value in every second batch, which no batch of trainings can."""

    calls = 0

    def loss(self, trial: Any, terms: Any, kl_weight: Any, ranks: Any) -> dict[str, torch.Tensor]:
        found = super().loss(trial, terms, kl_weight, ranks)
        self.calls += 1
        if self.calls % 2 == 0:
            assert float(found["loss"].detach()) < math.inf
        return found


class Counting(CvaePsfLearner):
    """Builds networks that count their steps, and do not tell that they do."""

    packing: Any = Packing([])

    def build(self, trial: Any, data: Any) -> Any:
        network = super().build(trial, data)
        network.register_buffer("count", torch.tensor(float(torch.initial_seed())))
        network.register_forward_pre_hook(lambda module, inputs: (module.count.add_(1), None)[1])
        return network


@pytest.mark.parametrize("learner", [Unbatched(), Counting()], ids=["value", "buffer"])
def test_what_cannot_be_batched_after_all_is_trained_one_by_one(sets, learner, caplog):
    """Of a step that is begun nothing is left, such as statistics of its first batch."""
    same_steps(learner, sets["halvable"], False, 0.0, network="conv", base_width=4, accumulation=2)
    (line,) = set(warnings_of(caplog))
    assert "one by one" in line


def test_an_error_of_one_s_own_leaves_the_others_be(sets):
    """Such as a rate that cannot be computed."""
    pack, (fails, sound) = Pack(), steps_of(LEARNER, sets["plain"], [TRIAL, TRIAL])

    def rates(number: int) -> tuple[float, float]:
        if number == 15:
            raise KeyError(number)
        return 1e-3, 0.5

    failures: list[BaseException] = []

    def run() -> None:
        try:
            pack.run(fails, 1, 30, rates, Totals())
        except KeyError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(failures) == 1
    totals = Totals()
    pack.run(sound, 1, 30, lambda number: (1e-3, 0.5), totals)
    assert math.isfinite(totals.means(1)["loss"])


def test_one_that_fails_leaves_the_others_be(tmp_path, sets):
    data, pack = sets["plain"], Pack()
    failures: list[NonFiniteError] = []
    sound, reports = task(tmp_path / "sound"), Reports()

    def fails() -> None:
        try:
            list(train(task(tmp_path / "fails", learning_rate=1e30, optimizer="sgd"), LEARNER, data, pack=pack))
        except NonFiniteError as error:
            failures.append(error)

    thread = threading.Thread(target=fails)
    thread.start()
    for report in train(sound, LEARNER, data, pack=pack):
        reports.add(report)
    thread.join()
    assert len(failures) == 1
    alone = trained(task(tmp_path / "alone"), data)
    assert reports.metrics[40][METRIC] == pytest.approx(alone.metrics[40][METRIC], rel=1e-3)
