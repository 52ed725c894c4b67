"""Principal components of kernels that are known to lie near a small space."""

import pytest
import torch

from trainables.psf.principal import MOST_COMPONENTS, Components, expand


def low_rank(count: int, rank: int, channels: int = 2, side: int = 12, mirrored: bool = False) -> torch.Tensor:
    """Positive kernels [N, C, M, M] that mix `rank` patterns; mirrored ones are the same above and below."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(rank, channels, side, side, generator=generator)
    if mirrored:
        patterns = patterns + patterns.flip(-2)
    shares = torch.rand(count, rank, generator=generator)
    return torch.einsum("nr,rcyx->ncyx", shares, patterns)


def of_unit_norm(kernels: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """A mirrored kernel's norm is that of its upper half."""
    size = torch.linalg.vector_norm(kernels.flatten(1), dim=1) / (2**0.5 if mirrored else 1)
    return kernels / size[:, None, None, None]


def there_and_back(found: Components, kernels: torch.Tensor) -> torch.Tensor:
    scores = found.scores(kernels) * found.scale
    return expand(scores, found.mean, found.components, kernels.shape[1], found.mirrored)


@pytest.mark.parametrize("mirrored", [False, True])
def test_components_are_orthonormal_and_hold_all_of_what_mixes_a_few_patterns(mirrored):
    kernels = low_rank(60, 5, mirrored=mirrored)
    found = Components.fit(kernels, mirrored)
    elements = 2 * 12 * 12 // (1 + mirrored)
    assert found.mean.shape == (elements,)
    assert found.components.shape == (59, elements)
    assert {found.mean.dtype, found.components.dtype} == {torch.float16}
    components = found.components.float()
    torch.testing.assert_close(components @ components.T, torch.eye(59), atol=2e-3, rtol=0)
    true = of_unit_norm(kernels, mirrored)
    torch.testing.assert_close(there_and_back(found, kernels), true, atol=2e-3 * float(true.max()), rtol=0)


def test_the_first_components_tell_most_and_the_first_score_is_the_unit():
    kernels = low_rank(400, 6)
    found = Components.fit(kernels, mirrored=False)
    spread = found.scores(kernels).std(dim=0, correction=0)
    assert spread[0] == pytest.approx(1, abs=0.01)
    assert (spread[:5].diff() < 0).all()
    assert spread[6:].max() < 0.02  # nothing is left but rounding
    # Errors in scores, times their scale, are those of the kernels.
    scores = found.scores(kernels)
    moved = scores + 0.1 * torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
    parts = (found.mean, found.components, 2, False)
    apart = expand(found.scale * moved, *parts) - expand(found.scale * scores, *parts)
    expected = found.scale * torch.linalg.vector_norm(moved - scores, dim=1)
    torch.testing.assert_close(torch.linalg.vector_norm(apart.flatten(1), dim=1), expected, rtol=5e-3, atol=0)


def test_mirrored_components_know_of_a_kernel_what_its_halves_have_in_common():
    even = low_rank(30, 4, mirrored=True)
    found = Components.fit(even, mirrored=True)
    odd = torch.randn(even.shape, generator=torch.Generator().manual_seed(2))
    crooked = even + 0.1 * (odd - odd.flip(-2))
    torch.testing.assert_close(found.scores(crooked), found.scores(even), atol=1e-4, rtol=1e-4)
    expanded = there_and_back(found, crooked)
    assert torch.equal(expanded, expanded.flip(-2))


def test_a_fit_has_the_same_bits_again_and_leaves_the_process_s_random_numbers_alone():
    kernels = low_rank(40, 40)
    torch.manual_seed(5)
    first, drawn = Components.fit(kernels, mirrored=False), torch.rand(3)
    second = Components.fit(kernels.clone(), mirrored=False)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.components, second.components)
    assert first.scale == second.scale
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize(
    ("count", "side", "expected"), [(7, 12, 6), (2, 12, 1), (300, 4, 2 * 4 * 4), (300, 12, MOST_COMPONENTS)]
)
def test_there_are_as_many_as_kernels_and_their_samples_allow(count, side, expected):
    kernels = low_rank(count, 300, side=side)
    found = Components.fit(kernels, mirrored=False)
    assert len(found.components) == expected
    assert found.scores(kernels).shape == (count, expected)
    error = there_and_back(found, kernels) - of_unit_norm(kernels, False)
    assert torch.linalg.vector_norm(error.flatten(1), dim=1).max() < 0.05
