"""What image networks bring to training: weights whose channels lie side by side in memory, and batch statistics."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.images.test_knobs import BOTTLENECK, RESIDUAL, TRIAL, Learner, images
from tests.trainables.psf.synthetic import state_of
from trainables.images.trial import VaeImageTrial
from trainables.networks.vae import VAE
from trainables.training import saving
from trainables.training.loop import train
from trainables.training.state import without_prefix
from trainables.training.task import TrainingTask


def train_to(directory: Path, stop: int, changes: dict[str, Any]) -> list[int]:
    trial = VaeImageTrial.model_validate({**TRIAL, **changes})
    task = TrainingTask("vae_image", trial, 3, 6, (2, 4, 6), str(directory), "val/nll", "min")
    steps = []
    with closing(train(task, Learner(), images())) as reports:
        for report in reports:
            steps.append(report.step)
            if report.step == stop:
                break
    return steps


@pytest.mark.parametrize("changes", [RESIDUAL, BOTTLENECK], ids=["residual", "bottleneck"])
def test_resuming_repeats_an_uninterrupted_training_bit_for_bit(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(saving, "SHARE", math.inf)  # a checkpoint at every report
    assert train_to(tmp_path / "whole", 6, changes) == [2, 4, 6]
    assert train_to(tmp_path / "parts", 4, changes) == [2, 4]
    assert train_to(tmp_path / "parts", 6, changes) == [4, 6]
    whole, parts = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_averaged_weights_have_statistics_of_their_own(tmp_path):
    """Those of the raw weights, whose last batches they would be, are others."""
    data = images()
    trial = VaeImageTrial.model_validate({**TRIAL, **RESIDUAL, "learning_rate": 0.1, "ema_width": 0.25})
    task = TrainingTask("vae_image", trial, 3, 20, (20,), str(tmp_path), "val/nll", "min")
    with closing(train(task, Learner(), data)) as reports:
        evaluated = [report.network for report in reports][-1]
    assert isinstance(evaluated, VAE)
    raw = evaluated_by(state_of(tmp_path), evaluated)
    x = data.train.whole.fixed_pixels("unit")

    def misfit(network: VAE) -> float:
        """Of the first convolution's channels, in standard deviations."""
        block: Any = next(network.encoder.children())
        convolution, norm = block.main[:2]
        with torch.no_grad():
            features = convolution(x).movedim(1, 0).flatten(1)
        return float(((norm.running_mean - features.mean(dim=1)) / features.std(dim=1)).abs().max())

    assert misfit(evaluated) < 0.1
    assert misfit(raw) > 2 * misfit(evaluated)


def evaluated_by(tensors: dict[str, torch.Tensor], like: VAE) -> VAE:
    """The averaged weights with the statistics that training gathered."""
    network = VAE(like.config)
    network.load_state_dict(like.state_dict())
    statistics = {name: value for name, value in without_prefix("model.", tensors).items() if "running" in name}
    network.load_state_dict(statistics, strict=False)
    return network
