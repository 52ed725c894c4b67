"""Likelihoods against quadrature, sums over all levels, and torch.distributions."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal
from torch.distributions import Laplace as TorchLaplace

from trainables.training.likelihoods import LEVELS, LIKELIHOODS, Charbonnier, Laplace, LikelihoodOptions
from trainables.training.scales import LOG_SCALE_HIGH, LOG_SCALE_LOW, pixel_log_scale
from trainables.training.special import langevin, log_scaled_k1, log_sinh_ratio

OPTIONS = LikelihoodOptions(variance=0.04, epsilon=0.01)
RAWS = (-3.0, -0.2, 0.0, 0.1, 0.3, 4.0)
NAMES = tuple(name for name in LIKELIHOODS if name != "none")

RANK = """
import json
import sys
import torch
import torch.distributed as dist
from trainables.training.likelihoods import LIKELIHOODS, LikelihoodOptions

rank, root = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=2)
raw = torch.arange(12.0).reshape(3, 1, 2, 2) / 12
part = raw.tensor_split(2)[rank].clone().requires_grad_()
model = LIKELIHOODS["gaussian_optimal"](LikelihoodOptions())
with open(f"{root}/{rank}.json", "w") as file:
    json.dump(model.log_prob(part, torch.zeros(len(part), 1, 2, 2)).tolist(), file)
dist.barrier()
dist.destroy_process_group()
"""


def likelihood(name, **options):
    return LIKELIHOODS[name](LikelihoodOptions(**options) if options else OPTIONS).double().eval()


def pixels(values):
    """[M] -> images of one row, [1, 1, 1, M]."""
    return values[None, None, None]


def network_output(model, offset, spread=-1.0, *, count=1):
    """[1, P, 1, count]: the same first parameter everywhere, and the same second one where there is one."""
    parameters = torch.tensor([offset, spread][: model.parameters_per_channel], dtype=torch.float64)
    return parameters[None, :, None, None].expand(1, -1, 1, count)


def support(space):
    """All values of a pixel, [M]."""
    return torch.tensor([0.0, 1.0]).double() if space == "binary" else torch.arange(LEVELS).double() / (LEVELS - 1)


def integral(values, grid):
    return torch.trapezoid(values, grid).item()


@pytest.mark.parametrize("offset", RAWS)
@pytest.mark.parametrize("name", NAMES)
def test_each_integrates_to_one(name, offset):
    model = likelihood(name)
    if model.space == "unit":
        whole = name != "continuous_bernoulli"
        # sinh puts the points where the narrowest density has its peak.
        t = torch.linspace(-1, 1, 200_001).double()
        grid = 0.5 + offset + torch.sinh(12 * t) * 40 / math.sinh(12) if whole else (t + 1) / 2
        density = model.pixel_log_prob(network_output(model, offset, count=len(grid)), pixels(grid)).exp().flatten()
        assert integral(density, grid) == pytest.approx(1, abs=1e-7)
    else:
        points = support(model.space)
        mass = model.pixel_log_prob(network_output(model, offset, count=len(points)), pixels(points)).exp().flatten()
        assert mass.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("spread", [-40.0, -6.0, 0.0, 3.0, 40.0])
def test_logistic_sums_to_one_at_any_scale(spread):
    model = likelihood("logistic")
    points = support("levels")
    mass = model.pixel_log_prob(network_output(model, -0.3, spread, count=LEVELS), pixels(points)).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_sums_over_channels_and_pixels(name):
    model = likelihood(name)
    channels = 3
    raw = torch.randn(2, model.parameters_per_channel * channels, 4, 5).double()
    x = torch.rand(2, channels, 4, 5).double().round()
    each = model.pixel_log_prob(raw, x)
    assert each.shape == x.shape
    torch.testing.assert_close(model.log_prob(raw, x), each.sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("offset", [-2.0, -1e-3, 0.0, 0.4, 2.0])
def test_bernoullis_agree_with_torch(offset):
    logits = torch.full((1, 1, 1, 3), offset).double()
    binary = pixels(torch.tensor([0.0, 1.0, 1.0]).double())
    unit = pixels(torch.tensor([0.0, 0.3, 1.0]).double())
    torch.testing.assert_close(
        likelihood("bernoulli").pixel_log_prob(logits, binary), Bernoulli(logits=logits).log_prob(binary)
    )
    theirs = ContinuousBernoulli(logits=logits)
    # Theirs is a Taylor series about 1/2, good to 1e-7.
    continuous = likelihood("continuous_bernoulli")
    torch.testing.assert_close(continuous.pixel_log_prob(logits, unit), theirs.log_prob(unit), atol=1e-6, rtol=0)
    torch.testing.assert_close(continuous.mean(logits), theirs.mean, atol=1e-6, rtol=0)


def test_continuous_bernoulli_at_one_half_is_uniform():
    model = likelihood("continuous_bernoulli")
    assert model.pixel_log_prob(torch.zeros(5).double(), torch.rand(5).double()).abs().max() == 0


def test_gaussians_and_laplace_agree_with_torch():
    x, raw = torch.rand(2, 1, 3, 3).double(), torch.randn(2, 1, 3, 3).double()
    mu = 0.5 + raw
    for name, sigma in (("gaussian_half", math.sqrt(0.5)), ("gaussian_fixed", 0.2), ("gaussian_learned", None)):
        model = likelihood(name)
        sigma = sigma or pixel_log_scale(torch.zeros(())).exp().item()
        expected = Normal(mu, sigma).log_prob(x).sum(dim=(1, 2, 3))
        torch.testing.assert_close(model.log_prob(raw, x), expected, rtol=1e-6, atol=1e-6)
    spread = torch.randn(2, 1, 3, 3).double()
    expected = Normal(mu, pixel_log_scale(spread).exp()).log_prob(x)
    torch.testing.assert_close(
        likelihood("gaussian_pixel").pixel_log_prob(torch.cat([raw, spread], dim=1), x), expected
    )
    model = likelihood("laplace")
    scale = model.scale.log().exp().detach()
    torch.testing.assert_close(model.pixel_log_prob(raw, x), TorchLaplace(mu, scale).log_prob(x))


def test_half_a_variance_is_the_summed_squared_error():
    x, raw = torch.rand(2, 1, 3, 3).double(), torch.randn(2, 1, 3, 3).double()
    squared = (x - 0.5 - raw).square().sum(dim=(1, 2, 3))
    expected = -squared - 9 / 2 * math.log(math.pi)
    torch.testing.assert_close(likelihood("gaussian_half").log_prob(raw, x), expected, rtol=1e-6, atol=1e-6)


def test_optimal_sigma_is_the_batch_s_own_and_held_out_images_do_not_choose_it():
    model = likelihood("gaussian_optimal").train()
    raw = torch.randn(4, 1, 3, 3).double().requires_grad_()
    x = torch.rand(4, 1, 3, 3).double()
    mean_square = (x - 0.5 - raw).square().mean()
    before = model.scale.mean_square.clone()
    value = model.log_prob(raw, x).sum()
    count = x.numel()
    expected = -count / 2 * (math.log(2 * math.pi) + mean_square.log() + 1)
    torch.testing.assert_close(value, expected)
    # The gradient is that of the expression above, although none flows through sigma.
    torch.testing.assert_close(
        torch.autograd.grad(value, raw, retain_graph=True)[0], torch.autograd.grad(expected, raw)[0]
    )
    average = before + 0.1 * (mean_square.detach() - before)
    torch.testing.assert_close(model.scale.mean_square, average)
    with torch.no_grad():
        held_out = model.log_prob(torch.zeros_like(raw), x)
    expected = Normal(0.5, average.sqrt()).log_prob(x).sum(dim=(1, 2, 3))
    torch.testing.assert_close(held_out, expected)
    torch.testing.assert_close(model.scale.mean_square, average)


def test_two_workers_take_the_sigma_of_the_whole_batch(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [process.wait(timeout=200) for process in ranks] == [0, 0]
    raw = (torch.arange(12.0).reshape(3, 1, 2, 2) / 12).requires_grad_()
    alone = LIKELIHOODS["gaussian_optimal"](OPTIONS).log_prob(raw, torch.zeros(3, 1, 2, 2))
    both = [value for rank in range(2) for value in json.loads((tmp_path / f"{rank}.json").read_text())]
    assert both == pytest.approx(alone.tolist(), rel=1e-5)


def test_charbonnier_s_normaliser():
    """2 e K1(e / b) = 0.0540697576 for e = 1, b = 0.3, by quadrature of exp(-sqrt(d^2 + 1) / 0.3)."""
    e, b = 1.0, torch.tensor(0.3, dtype=torch.float64)
    log_normaliser = math.log(2 * e) + log_scaled_k1(e / b) - e / b
    assert log_normaliser.exp().item() == pytest.approx(0.0540697576, rel=1e-9)


def test_charbonnier_becomes_laplace():
    smooth, sharp = Charbonnier(epsilon=1e-7).double(), Laplace().double()
    raw, x = torch.randn(50).double(), torch.rand(50).double()
    torch.testing.assert_close(smooth.pixel_log_prob(raw, x), sharp.pixel_log_prob(raw, x), atol=1e-5, rtol=0)


def test_special_functions_and_their_gradients():
    h = torch.tensor([-30.0, -1.0, -0.26, -0.24, -1e-4, 0.0, 0.1, 0.24, 0.26, 3.0, 400.0]).double().requires_grad_()
    ratio = log_sinh_ratio(h)
    moderate = h.detach().abs().clamp(1e-9, 300)
    small = h.detach().abs() < 300
    torch.testing.assert_close(ratio[small], (moderate.sinh() / moderate).log()[small], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(torch.autograd.grad(ratio.sum(), h)[0], langevin(h), atol=2e-8, rtol=0)
    x = torch.tensor([1e-4, 0.1, 1.0, 30.0]).double().requires_grad_()
    assert torch.autograd.gradcheck(log_scaled_k1, (x,))


@pytest.mark.parametrize("offset", [-0.2, 0.0, 0.15])
@pytest.mark.parametrize("name", NAMES)
def test_mean_is_the_mean_of_samples(name, offset):
    model = likelihood(name, variance=0.01, epsilon=0.1)
    count = 100_000
    raw = network_output(model, offset, -1.5, count=count)
    samples = model.sample(raw, torch.Generator().manual_seed(0))
    error = samples.std().item() / math.sqrt(count)
    assert samples.mean().item() == pytest.approx(model.mean(raw).mean().item(), abs=4 * error)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_of_the_density(name):
    """Their mean log-density is the negative entropy, by quadrature or a sum."""
    model = likelihood(name, variance=0.01, epsilon=0.5)
    count, offset = 100_000, 0.2
    samples = model.sample(network_output(model, offset, count=count), torch.Generator().manual_seed(0))
    values = model.pixel_log_prob(network_output(model, offset, count=count), samples).flatten()
    if model.space == "unit":
        low, high = (0, 1) if name == "continuous_bernoulli" else (-20, 21)
        grid = torch.linspace(low, high, 400_001).double()
        log_density = model.pixel_log_prob(network_output(model, offset, count=len(grid)), pixels(grid)).flatten()
        expected = integral(log_density.exp() * log_density, grid)
    else:
        points = support(model.space)
        log_mass = model.pixel_log_prob(network_output(model, offset, count=len(points)), pixels(points)).flatten()
        expected = (log_mass.exp() * log_mass).sum().item()
    assert values.mean().item() == pytest.approx(expected, abs=4 * values.std().item() / math.sqrt(count))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_at_the_edges(name):
    model = LIKELIHOODS[name](LikelihoodOptions())
    edges = torch.tensor([0.0, 1.0])
    x, first, second = torch.meshgrid(
        edges, torch.tensor([-30.0, -0.5, 0.0, 0.5, 30.0]), torch.tensor([-100.0, 0.0, 100.0]), indexing="ij"
    )
    raw = torch.stack([first, second][: model.parameters_per_channel])[None].flatten(2)[..., None].requires_grad_()
    value = model.log_prob(raw, x.reshape(1, 1, -1, 1))
    gradients = torch.autograd.grad(value.sum(), [raw, *model.parameters()])
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_outputs_are_summed_in_float32(name):
    model = LIKELIHOODS[name](LikelihoodOptions()).eval()
    raw = torch.randn(2, model.parameters_per_channel, 28, 28).bfloat16()
    x = torch.rand(2, 1, 28, 28).round()
    with torch.autocast("cpu", torch.bfloat16):
        values = model.log_prob(raw, x)
        assert model.mean(raw).dtype == torch.float32
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, model.log_prob(raw.float(), x))


def test_scales_are_bounded_and_move_everywhere():
    raw = torch.tensor([-30.0, 0.0, 30.0]).requires_grad_()
    scales = pixel_log_scale(raw)
    assert LOG_SCALE_LOW <= scales.min() < scales.max() <= LOG_SCALE_HIGH
    slopes = torch.autograd.grad(scales.sum(), raw)[0]
    assert slopes.min() > 0
