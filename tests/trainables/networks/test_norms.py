"""Normalisation: groups, and batch statistics that are measured anew (on several workers: test_ranks.py)."""

import pytest
import torch
from torch import nn

from trainables.networks.norms import BatchNorm, group_norm, has_statistics, measuring


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (8, 1), (12, 1), (16, 2), (64, 8), (256, 32), (512, 32)])
def test_groups_have_eight_channels_and_are_at_most_32(channels, groups):
    assert group_norm(channels).num_groups == groups


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(BatchNorm(2), nn.Conv2d(2, 3, 3), BatchNorm(3))


def test_in_one_process_it_is_pytorchs():
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


def test_in_evaluation_a_sample_does_not_depend_on_its_batch():
    model, x = network(), torch.randn(4, 2, 6, 6)
    model(3 * x)
    model.eval()
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


def test_measured_statistics_are_those_of_the_batches_alone():
    """Whatever was gathered before, in whichever mode the network is, they are the mean over the passes."""
    model, x = network(), torch.randn(8, 2, 6, 6) * 3 + 5
    model(100 * x)
    model.eval()
    with measuring(model):
        for part in x.split(4):
            model(part)
    assert not model.training
    first = model[0]
    assert isinstance(first, BatchNorm)
    torch.testing.assert_close(first.running_mean, x.mean(dim=(0, 2, 3)))
    variances = torch.stack([part.movedim(1, 0).flatten(1).var(dim=1) for part in x.split(4)])
    torch.testing.assert_close(first.running_var, variances.mean(dim=0))
    assert not model(x).requires_grad or all(one.grad is None for one in model.parameters())


def test_after_measuring_training_gathers_as_before():
    model, other, x = network(), network(), torch.randn(8, 2, 6, 6)
    with measuring(model):
        model(x)
    with measuring(other):
        other(x)
    model(2 * x)
    first, untouched = model[0], other[0]
    assert isinstance(first, BatchNorm)
    assert isinstance(untouched, BatchNorm)
    assert untouched.running_mean is not None
    expected = 0.9 * untouched.running_mean + 0.1 * (2 * x).mean(dim=(0, 2, 3))
    torch.testing.assert_close(first.running_mean, expected)


def test_which_networks_have_statistics():
    assert has_statistics(network())
    assert not has_statistics(nn.Sequential(group_norm(8), nn.Conv2d(8, 8, 1)))
