"""Components on which mirrors act by signs, and shifts by matrices."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deeplens_workers import cache
from deeplens_workers.kernels import Kernels, RenderRequest, Tracing, Units
from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.tolerances import Tolerances
from tests.trainables.asbuilt.synthetic import kernels_of
from trainables.asbuilt.basis import FAR, MirrorBasis, of_unit_norm, pixel_weights
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors
from trainables.asbuilt.quantities import rms_radius
from trainables.asbuilt.set_facts import SetFacts
from trainables.asbuilt.simplex import clean_kernels, nearest_kernels

UNITS = 3


@pytest.fixture(scope="module")
def few(square):
    return AsBuiltSplit.load(square["train"]).kernels[:UNITS]


def scores_of(data, kernels):
    return data.basis.scores(kernels.flatten(0, 1)).view(*kernels.shape[:2], -1)


@pytest.mark.parametrize("image", range(8))
def test_mirrored_scores_are_those_of_mirrored_kernels(data, few, image):
    images = torch.full((UNITS,), image)
    direct = scores_of(data, data.mirrored_kernels(few, images))
    torch.testing.assert_close(data.mirrored(scores_of(data, few), images), direct, atol=5e-5, rtol=0)


@pytest.mark.parametrize("image", range(8))
def test_a_mirror_image_is_another_unit_at_mirrored_positions(data, square, few, image):
    """The same displacement mirrored makes the same kernels mirrored."""
    train = AsBuiltSplit.load(square["train"])
    turn = data.mirrors.turns[image].numpy()
    unit = train.units[0].numpy().copy()
    unit[:2] = turn @ unit[:2]
    made = kernels_of(unit, train.points[0].numpy() @ turn.T)
    mirrored = data.mirrored_kernels(few[:1], torch.tensor([image]))[0]
    np.testing.assert_allclose(made, mirrored.numpy(), atol=1e-6)


def test_mirror_images_are_those_of_a_centred_design_and_across_the_diagonal_of_a_square_sensor(
    square, oblong, not_centred
):
    assert [len(AsBuiltTensors.load(one).mirrors.signs) for one in (square, oblong, not_centred)] == [8, 4, 1]


def decentred(lens):
    tree = json.loads((LENSES / f"{lens}.json").read_text())
    for surface in tree["surfaces"][:2]:
        surface["pos_xy"] = [0.5, 0.0]
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("lens", "sensor_mm", "centred", "square"),
    [
        ("cooke_triplet_50mm", None, True, True),
        ("cooke_triplet_50mm", (20, 19), True, False),
        ("double_gauss_100mm", (8, 6), True, False),
        ("decentred", (20, 20), False, False),
    ],
)
def test_a_lens_says_which_images_of_a_unit_are_units(tmp_path, lens, sensor_mm, centred, square):
    """By its own surfaces and its sensor's size, of which a rendered set's manifest tells."""
    path = tmp_path / "decentred.json"
    path.write_text(decentred("cooke_triplet_50mm"))
    found = find_lens(str(path) if lens == "decentred" else lens, sensor_mm=sensor_mm)
    units = Units(Tolerances(), np.zeros((1, 33)), -1e4)
    points = np.array([[0.0, 0.0, -1e4]], np.float32)
    request = RenderRequest(found, points, 6.4, Tracing((((0.587, 1.0),),), 16, 16, 64), units)
    facts = SetFacts.of(cache.write(tmp_path / "cache", request, Kernels.empty(1, 1, 16)))
    assert (facts.centred, facts.square) == (centred, square)


def test_components_are_orthonormal_and_explain_the_kernels(data, few):
    """Orthonormal as errors are weighted."""
    components = data.basis.components.float()
    products = (components * data.basis.weights) @ components.mT
    torch.testing.assert_close(products, torch.eye(len(components)), atol=2e-3, rtol=0)
    unit = of_unit_norm(few.flatten(0, 1)).flatten(1)
    again = data.basis.mean.float() + data.basis.scores(few.flatten(0, 1)) @ components
    assert float((again - unit).norm(dim=1).max()) < 0.02


def test_the_variance_is_that_of_scores_and_their_spread(data):
    """Of a unit and its images together."""
    scores = torch.cat([data.mirrored(data.scores, torch.full((len(data.scores),), one)) for one in range(8)])
    found = scores.flatten(0, 1).square().mean(dim=0)
    torch.testing.assert_close(found.sqrt(), data.basis.spread, rtol=0.02, atol=2e-4)
    assert float(found.sum()) == pytest.approx(data.basis.weighted_variance, rel=0.01)


def test_errors_count_more_the_farther_out_they_are():
    """A mean kernel of four pixels, all of them at its RMS radius."""
    mean = torch.zeros(2, 8, 8)
    mean[:, 1::5, 1::5] = 0.25
    weights = pixel_weights(mean)
    torch.testing.assert_close(weights[1::5, 1::5], torch.full((2, 2), 1 + FAR))
    radius = torch.hypot(torch.tensor(0.5), torch.tensor(0.5)) / torch.hypot(torch.tensor(2.5), torch.tensor(2.5))
    torch.testing.assert_close(weights[3:5, 3:5], (1 + FAR * radius.square()).expand(2, 2))


def test_light_far_out_comes_before_as_much_light_in_the_middle():
    """Kernels that differ by a near and a far ring, the near one by a little more."""
    axis = torch.arange(16) - 7.5
    radius = torch.hypot(axis, axis[:, None])
    near, far = ((radius - at).abs().lt(0.5).float() for at in (2, 7))
    amounts = torch.randn(400, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    rings = 1.1 * amounts[:, 0] * near / near.norm() + amounts[:, 1] * far / far.norm()
    kernels = torch.exp(-radius.square() / 8) + 0.01 * rings
    first = MirrorBasis.fit(kernels[:, None], square=True).components[0].float().view(16, 16)
    assert float((first * far).abs().sum()) > 5 * float((first * near).abs().sum())


def test_scores_of_white_noise_have_the_deviation_that_is_told(data):
    basis = data.basis
    white = torch.randn(4000, len(basis.weights), generator=torch.Generator().manual_seed(0))
    found = (white * basis.weights) @ basis.components[:8].float().mT
    torch.testing.assert_close(found.std(dim=0), basis.noise(8), rtol=0.05, atol=0)


def test_a_whole_number_of_components_splits_no_pair(data):
    partner = data.basis.partner
    for count in range(8, 40):
        whole = data.basis.whole(count)
        assert count - 1 <= whole <= count
        assert int(partner[:whole].max()) < whole


def test_the_same_kernels_have_the_same_components(few):
    first, second = (MirrorBasis.fit(few.flatten(0, 1), square=True) for _ in range(2))
    assert torch.equal(first.components, second.components)


@pytest.mark.parametrize("odd", [0, 1])
def test_kernels_of_odd_and_even_sides_have_components(odd):
    kernels = torch.rand(50, 2, 8 + odd, 8 + odd, generator=torch.Generator().manual_seed(0))
    basis = MirrorBasis.fit(kernels, square=False)
    again = basis.mean.float() + basis.scores(kernels) @ basis.components.float()
    torch.testing.assert_close(again, of_unit_norm(kernels).flatten(1), atol=3e-3, rtol=0)


def test_shifted_scores_are_nearly_those_of_shifted_kernels(data, few):
    scores = scores_of(data, few).flatten(0, 1)
    frequencies = torch.fft.fftfreq(few.shape[-1])
    across, down = 0.2, -0.1
    phase = torch.exp(-2j * torch.pi * (across * frequencies + down * frequencies[:, None]))
    shifted = torch.fft.ifft2(torch.fft.fft2(few.flatten(0, 1)) * phase).real
    wanted = data.basis.scores(shifted)
    found = data.shifts.apply(scores, torch.tensor([across, down]).expand(len(scores), 2))
    assert float((found - wanted).norm() / (wanted - scores).norm()) < 0.03


def test_the_nearest_kernel_is_nearest():
    """Against the projection on the simplex by sorting (Duchi et al. 2008)."""
    images = torch.rand(4, 2, 9, 9, generator=torch.Generator().manual_seed(0)) ** 4 - 0.05
    images = images / images.sum(dim=(-2, -1), keepdim=True)
    found = nearest_kernels(images)
    ordered = images.flatten(2).sort(descending=True).values
    rank = torch.arange(1, 82)
    levels = (ordered.cumsum(-1) - 1) / rank
    last = (ordered > levels).sum(-1, keepdim=True) - 1
    wanted = (images - levels.gather(-1, last)[..., None]).clamp_min(0)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(nearest_kernels(found), found)


def test_errors_in_the_dark_do_not_widen_a_clean_kernel():
    """A disk of light in an image with errors of 0.3 % of the peak."""
    axis = torch.arange(32) - 15.5
    radius = torch.hypot(axis, axis[:, None])
    disk = (5 - radius).clamp(0, 1)[None]
    disk = disk / disk.sum()
    noise = torch.randn(disk.shape, generator=torch.Generator().manual_seed(0)) * 0.003 * disk.amax()
    wide, clean = (float(rms_radius(kernels(disk + noise))) for kernels in (nearest_kernels, clean_kernels))
    true = float(rms_radius(disk))
    assert wide > true * 1.02
    assert abs(clean - true) < (wide - true) / 3
    assert float(clean_kernels(disk + noise).sum()) == pytest.approx(1)
