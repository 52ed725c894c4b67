"""What only a GPU can show."""

import math
from contextlib import closing

import pytest
import torch

from tests.trainables.images.conftest import write_mnist
from tests.trainables.lanes.test_lane import assignment, make_data, training
from tests.trainables.psf.meridional import prepared
from tests.trainables.training.small import TRIAL
from trainables.images.image_data import ImageData
from trainables.images.learner import ImageLearner
from trainables.images.preparation import ImagePreparation
from trainables.images.trial import VaeImageTrial
from trainables.lanes.lanes import Lanes
from trainables.psf.learner import CvaePsfLearner
from trainables.training import saving
from trainables.training.loop import train
from trainables.training.task import TrainingTask

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

STEPS = 30


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("kernels"), kernel_px=16, trace_px=32, pixel_pitch_um=6.4)


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


def evaluations(system, learner, trial, data, directory, steps=STEPS, stop_at=None):
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
    with closing(train(task, learner, data)) as training:
        for report in training:
            heard.append(report)
            if report.step == stop_at:
                break
    return heard


@pytest.mark.parametrize("name", ["mlp", "basis", "conv", "images"])
def test_a_network_computes_the_same_on_a_gpu(name, kernels, images, tmp_path):
    """Trained there, it is judged alike there and here, to the GPU's rounding."""
    system, learner, sets, trial = case(name, kernels, images)
    (*_, last) = evaluations(system, learner, trial, learner.open(sets, "cuda"), tmp_path)
    assert last.last
    assert next(last.network.parameters()).is_cuda
    here = learner.evaluate(last.network.cpu(), learner.open(sets))
    there = {key: value for key, value in last.metrics.items() if key.startswith("val/")}
    assert set(here) == set(there)
    assert there == pytest.approx(here, rel=5e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["basis", "images"])
@pytest.mark.parametrize("devices", [("cuda", "cpu", "cuda"), ("cuda", "cuda", "cuda")], ids="-".join)
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
    data = learner.open(kernels, "cuda")
    trial = TRIAL.model_copy(update={"precision": "bfloat16"})
    first, *_, last = evaluations("cvae_psf", learner, trial, data, tmp_path, steps=100)
    assert last.metrics["val/prior_rel_l2"] < first.metrics["val/prior_rel_l2"]


def test_lanes_share_a_gpu_and_a_lane_has_two_workers_on_it(tmp_path):
    import ray

    data = make_data(tmp_path)
    ray.init(address="local", num_cpus=6, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        for lanes, workers in ((2, 1), (1, 2)):
            folder = tmp_path / f"{lanes}x{workers}"
            heard: dict[str, list[float]] = {}

            def reported(posted, report, heard=heard):
                assert report.failure is None, report.failure
                heard.setdefault(posted.attempt, []).append(report.metrics["val/prior_rel_l2"])

            with Lanes(lanes=lanes, workers=workers, cpus=1, gpus=0.5, storage=folder, logs=folder) as running:
                running.wait_ready()
                running.train([assignment(i, training(data, folder / str(i))) for i in range(lanes)], reported)
            assert [len(errors) for errors in heard.values()] == [6] * lanes
            assert "device cuda" in (folder / "lane-0.log").read_text()
    finally:
        ray.shutdown()
