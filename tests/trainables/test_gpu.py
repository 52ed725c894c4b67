"""What only a GPU can show. Without one the same tests run on the CPU, where they are among the slow."""

import logging
import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, nullcontext
from logging.handlers import QueueHandler
from multiprocessing import get_context
from queue import SimpleQueue

import pytest
import torch

from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import PsfPreparation
from tests.trainables.images.conftest import write_mnist
from tests.trainables.lanes.test_lane import assignment, make_data, training
from tests.trainables.packs import batched, distance, steps_of
from tests.trainables.psf.meridional import prepared
from tests.trainables.psf.synthetic import blobs, grid, write_set
from tests.trainables.psf.test_stream import streamed
from tests.trainables.training.small import TRIAL
from tests.trainables.training.test_cuda_graphs import repeated
from trainables.images.image_data import ImageData
from trainables.images.learner import ImageLearner
from trainables.images.preparation import ImagePreparation
from trainables.images.trial import VaeImageTrial
from trainables.lanes.lanes import Lanes
from trainables.psf.learner import CvaePsfLearner
from trainables.training import cuda_graphs, saving
from trainables.training.batched import Batched
from trainables.training.cuda_graphs import StepGraph
from trainables.training.loop import train
from trainables.training.pack import Pack
from trainables.training.state import TrainingState
from trainables.training.step import Step
from trainables.training.task import TrainingTask

GPUS = torch.cuda.device_count()
GPU = "cuda" if GPUS else "cpu"
pytestmark = [pytest.mark.gpu, *([] if GPUS else [pytest.mark.slow])]

STEPS = 30
WAY = 1e-3
"""Largest difference of weights that are the same but for rounding, over the way that the steps moved them."""


def only_with(gpus):
    return pytest.mark.skipif(gpus > GPUS, reason=f"fewer than {gpus} GPUs")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    pytest.importorskip("deeplens")
    return prepared(tmp_path_factory.mktemp("kernels"), kernel_px=16, trace_px=32, pixel_pitch_um=6.4)


@pytest.fixture(scope="module")
def on_grid(tmp_path_factory):
    """Sets that take no ray tracing."""
    folder, points = tmp_path_factory.mktemp("grid"), grid(6)
    return {name: str(write_set(folder / name, points, blobs(points, 16))) for name in ("train", "validation")}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_mnist(folder, train=60)
    data, preparation = ImageData(images="mnist", root=str(folder)), ImagePreparation()
    return preparation.prepare(data, preparation.find(data), 0, folder / "cache", actors=0).sets


def case(name, kernels, images):
    """A learner, its sets and a trial."""
    if name == "images":
        trial = VaeImageTrial(network="mlp", latent_dim=4, hidden_dim=16, batch_size=16)
        return "vae_image", ImageLearner(), images, trial
    changes = {"network": name, "components": 16, "base_width": 4, "encoder_layers": 1}
    return "cvae_psf", CvaePsfLearner(), kernels, TRIAL.model_copy(update=changes)


def evaluations(system, learner, trial, data, directory, steps=STEPS, stop_at=None, pack=None):
    task = TrainingTask(
        system=system,
        trial=trial,
        seed=3,
        steps=steps,
        report_steps=tuple(range(10, steps + 1, 10)),
        directory=str(directory),
        metric="val/prior_rel_l2" if system == "cvae_psf" else "val/nll",
        mode="min",
    )
    heard = []
    with closing(train(task, learner, data, pack=pack)) as training:
        for report in training:
            heard.append(report)
            if report.step == stop_at:
                break
    return heard


def test_a_pack_trains_what_each_of_its_trials_does_alone(on_grid):
    """Of unequal widths, and with a number each for what the loss takes."""
    learner = CvaePsfLearner()
    changes = [{}, {"hidden_dim": 24, "latent_dim": 3, "free_bits": 0.1}, {"fourier_bands": 5, "smooth_weight": 1.0}]
    trials = [TRIAL.model_copy(update=one) for one in changes]
    data = learner.open(on_grid, GPU)
    assert batched(learner, data, trials)
    assert distance(learner, data, trials, STEPS) < WAY


@pytest.mark.parametrize("name", ["mlp", "basis", "conv", "images"])
def test_a_pack_s_steps_by_a_cuda_graph_are_those_without(name, on_grid, images, caplog):
    caplog.set_level(logging.DEBUG)
    _, learner, sets, trial = case(name, on_grid, images)
    changes = {**LINEAR, "accumulation": 2, "target_rate": 1.0}
    trial = trial.model_copy(update={key: value for key, value in changes.items() if hasattr(trial, key)})
    trials = [trial, trial.model_copy(update={"learning_rate": trial.learning_rate / 10})]
    data = learner.open(sets, GPU)
    found = [stepped_together(learner, trials, data, graph) for graph in (None, joined)]
    assert "steps are made by a CUDA graph" in caplog.messages, caplog.messages
    for by_graph, without in zip(*found, strict=True):
        assert_same_way(by_graph, without)


def test_a_pack_s_trainings_come_and_go_while_graphs_are_captured(on_grid, tmp_path, caplog):
    """Others are judged, saved and begun meanwhile; each reports what it does alone."""
    caplog.set_level(logging.DEBUG)
    learner, count = CvaePsfLearner(), 4
    data = learner.open(on_grid, GPU)
    trials = [TRIAL.model_copy(update={**LINEAR, "learning_rate": 1e-3 / 2**i}) for i in range(count)]
    lasts = [
        evaluations("cvae_psf", learner, one, data, tmp_path / f"{i}", steps=100)[-1] for i, one in enumerate(trials)
    ]
    pack = Pack()
    with ThreadPoolExecutor(count) as threads:
        jobs = [
            threads.submit(evaluations, "cvae_psf", learner, one, data, tmp_path / f"pack-{i}", 100, None, pack)
            for i, one in enumerate(trials)
        ]
        together = [job.result()[-1] for job in jobs]
    for one, other in zip(together, lasts, strict=True):
        assert one.metrics["val/prior_rel_l2"] == pytest.approx(other.metrics["val/prior_rel_l2"], rel=1e-2)
    assert not [message for message in caplog.messages if "without a CUDA graph" in message]


@pytest.mark.parametrize("name", ["mlp", "basis", "conv", "images"])
def test_a_network_computes_the_same_on_a_gpu(name, kernels, images, tmp_path):
    """Trained there, it is judged alike there and here, to the GPU's rounding."""
    system, learner, sets, trial = case(name, kernels, images)
    (*_, last) = evaluations(system, learner, trial, learner.open(sets, GPU), tmp_path)
    assert last.last
    assert next(last.network.parameters()).device.type == GPU
    here = learner.evaluate(last.network.cpu(), learner.open(sets))
    there = {key: value for key, value in last.metrics.items() if key.startswith("val/")}
    assert set(here) == set(there)
    assert there == pytest.approx(here, rel=5e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["basis", "images"])
@pytest.mark.parametrize("devices", [(GPU, "cpu", GPU), (GPU, GPU, GPU)], ids="-".join)
def test_a_checkpoint_goes_on_on_another_device(name, devices, kernels, images, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "SHARE", math.inf)
    system, learner, sets, trial = case(name, kernels, images)
    steps = []
    for device, stop_at in zip(devices, (10, 20, 30), strict=True):
        heard = evaluations(system, learner, trial, learner.open(sets, device), tmp_path, stop_at=stop_at)
        steps.append([report.step for report in heard])
        assert all(math.isfinite(value) for report in heard for value in report.metrics.values())
    assert steps == [[10], [10, 20], [20, 30]]


def test_a_step_in_bfloat16_learns(tmp_path, kernels):
    learner = CvaePsfLearner()
    data = learner.open(kernels, GPU)
    trial = TRIAL.model_copy(update={"precision": "bfloat16"})
    first, *_, last = evaluations("cvae_psf", learner, trial, data, tmp_path, steps=100)
    assert last.metrics["val/prior_rel_l2"] < first.metrics["val/prior_rel_l2"]


class SameDraws:
    """A learner whose batches have a CPU's random numbers on every device.

    Args:
        here: its data on the CPU.
    """

    def __init__(self, learner, here):
        self._learner, self._here, self._generator = learner, here, torch.Generator().manual_seed(1)

    def __getattr__(self, name):
        return getattr(self._learner, name)

    def draw(self, trial, data, generator):
        drawn = self._learner.draw(trial, self._here, self._generator)
        return tuple(one.to(data.device) for one in drawn)


def weights_of(state):
    """On the CPU, in float64."""
    return torch.nn.utils.parameters_to_vector(weight.detach() for weight in state.model.parameters()).cpu().double()


def stepped(learner, trial, data, graph=None, steps=STEPS):
    """The weights before and after some steps."""
    state = TrainingState(trial, lambda: learner.build(trial, data), 3, data.device)
    take_step, began = Step(trial, learner, data, state, graph=graph and graph([state])), weights_of(state)
    for step in range(1, steps + 1):
        take_step(step, 1e-3 / step, 1e-3)
    return began, weights_of(state)


def stepped_together(learner, trials, data, graph=None, steps=STEPS):
    """The same of each training of a batch."""
    members = steps_of(learner, data, trials)
    began = [weights_of(member.state) for member in members]
    batch = Batched(members, graph and graph([member.state for member in members]))
    for step in range(1, steps + 1):
        batch([step] * len(trials), [(trial.learning_rate / step, 1e-3) for trial in trials])
    return [(one, weights_of(member.state)) for one, member in zip(began, members, strict=True)]


def joined(states):
    return StepGraph(states, None if GPUS else repeated, shared=True)


def assert_same_way(one, other):
    """Of weights before and after."""
    assert torch.equal(one[0], other[0])
    way = (other[1] - other[0]).norm()
    assert way > 0
    assert (one[1] - other[1]).norm() < WAY * way


# Adam would make whole steps of gradients that are nothing but rounding.
LINEAR = {"optimizer": "sgd", "precision": "float32", "kl_schedule": "constant", "recon_scale": 10.0}


@pytest.mark.parametrize("name", ["mlp", "basis", "conv", "images"])
def test_a_gpu_trains_what_a_cpu_does(name, on_grid, images):
    _, learner, sets, trial = case(name, on_grid, images)
    trial = trial.model_copy(update={key: value for key, value in LINEAR.items() if hasattr(trial, key)})
    here = learner.open(sets)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        there = stepped(SameDraws(learner, here), trial, learner.open(sets, GPU))
    assert_same_way(there, stepped(SameDraws(learner, here), trial, here))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["mlp", "basis", "conv", "images"])
def test_steps_by_a_cuda_graph_are_those_without(name, precision, on_grid, images, caplog):
    """A graph's bits may be others: libraries may choose other kernels in it."""
    caplog.set_level(logging.INFO)
    _, learner, sets, trial = case(name, on_grid, images)
    changes = {**LINEAR, "precision": precision, "accumulation": 2, "target_rate": 1.0}
    trial = trial.model_copy(update={key: value for key, value in changes.items() if hasattr(trial, key)})
    data = learner.open(sets, GPU)
    assert learner.capturable(data)
    without = stepped(learner, trial, data)
    by_graph = stepped(learner, trial, data, StepGraph if GPUS else lambda states: StepGraph(states, repeated))
    assert "steps are made by a CUDA graph" in caplog.messages, caplog.messages
    assert_same_way(by_graph, without)


def test_a_training_has_a_graph_though_those_before_it_are_gone(on_grid, caplog):
    """While the gradients that they left are still there."""
    caplog.set_level(logging.INFO)
    learner = CvaePsfLearner()
    members = steps_of(learner, learner.open(on_grid, GPU), [TRIAL, TRIAL])
    for member in members:
        member.graph = joined([member.state])
        for number in range(1, STEPS + 1):
            member(number, 1e-3, 1e-3)
        member.graph = None
    assert caplog.messages.count("steps are made by a CUDA graph") == len(members)


class Waiting(CvaePsfLearner):
    """Asks its device for a value in every step."""

    def inputs(self, trial, data, drawn):
        assert float(drawn[1].sum()) < math.inf
        return super().inputs(trial, data, drawn)


def refused(sets, seen):
    """What is logged of a training whose steps no graph can hold, and how far it ends from the same without one.

    Args:
        seen: that they wait for the device is noticed before the capture fails of it.
    """
    told: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logging.getLogger(cuda_graphs.__name__).addHandler(QueueHandler(told))
    if not seen:
        pytest.MonkeyPatch().setattr(cuda_graphs, "_waits", lambda device, look: nullcontext([]))
    trial, learner = TRIAL.model_copy(update=LINEAR), Waiting()
    data = learner.open(sets, GPU)
    without = stepped(learner, trial, data)
    by_graph = stepped(learner, trial, data, StepGraph)
    logged = [told.get().getMessage() for _ in range(told.qsize())]
    return logged, float((by_graph[1] - without[1]).norm() / (without[1] - without[0]).norm())


@only_with(1)
@pytest.mark.parametrize(("seen", "reason"), [(True, "waits for the device"), (False, "Error: ")])
def test_steps_that_no_graph_can_hold_are_made_without(seen, reason, on_grid):
    """In a process of its own, whose random numbers a failed capture must not end."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        (line,), off = process.submit(refused, on_grid, seen).result()
    assert line.startswith("steps are made without a CUDA graph: ")
    assert reason in line
    assert off < WAY


def test_a_stream_s_kernels_come_to_the_device(tmp_path, ray_session):
    pytest.importorskip("deeplens")
    sets = {}
    for name in ("train", "validation"):
        points = grid(3, depths=(-10000.0, -1000.0), focus=(-1e4, -2e3))
        sets[name] = str(write_set(tmp_path / name, points, blobs(points, kernel_px=8, channels=3)))
    section, learner = streamed(), CvaePsfLearner()
    with PsfPreparation().supply(section, find_lens(section.lens), 5, actors=1) as supply:
        data = learner.open({**sets, **supply.sets}, GPU)
        assert data.train.kernels.device.type == GPU
        assert not learner.capturable(data)
        trial = TRIAL.model_copy(update={"batch_size": 64})
        *_, last = evaluations("cvae_psf", learner, trial, data, tmp_path, steps=200)
        assert last.last
        assert getattr(data.fresh, "drawn", 0) == 200 * 64
        assert data.train.kernels.sum(dim=(2, 3)).allclose(torch.ones((), device=GPU), atol=1e-4)


# Lanes, workers of each, and GPUs of a worker. Workers with a whole one each talk through NCCL.
SHARES = [
    (2, 1, 0.5),
    pytest.param(4, 1, 0.25, marks=only_with(1)),
    pytest.param(1, 2, 0.5, marks=only_with(1)),
    pytest.param(1, 2, 1, marks=only_with(2)),
]


@pytest.mark.parametrize(("lanes", "workers", "gpus"), SHARES)
def test_lanes_share_gpus_and_a_lane_s_workers_a_gpu_or_several(lanes, workers, gpus, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # with a Ray of its own
        heard = process.submit(lanes_train, tmp_path, lanes, workers, gpus).result()
    assert heard == [6] * lanes
    assert f"device {GPU}" in (tmp_path / "lane-0.log").read_text()


def lanes_train(folder, lanes, workers, gpus):
    """How many reports each lane makes."""
    import ray

    data = make_data(folder)
    heard: dict[str, int] = {}
    gpus = gpus if GPUS else 0
    ray.init(address="local", num_cpus=6, num_gpus=GPUS, include_dashboard=False, log_to_driver=False)

    def reported(posted, report):
        assert report.failure is None, report.failure
        assert math.isfinite(report.metrics["val/prior_rel_l2"])
        heard[posted.attempt] = heard.get(posted.attempt, 0) + 1

    try:
        with Lanes(lanes=lanes, workers=workers, cpus=1, gpus=gpus, storage=folder, logs=folder) as running:
            running.wait_ready()
            running.train([assignment(i, training(data, folder / str(i))) for i in range(lanes)], reported)
    finally:
        ray.shutdown()
    return list(heard.values())
