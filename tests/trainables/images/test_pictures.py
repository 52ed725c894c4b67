import numpy as np
import pytest
import torch
from matplotlib.image import imread

from tests.drawings import images as drawn_images
from tests.drawings import marks, numbers, pixels, written
from tests.trainables.images.test_evaluation import images, network
from tests.trainables.networks.test_linear_vae import D, linear_vae
from trainables.images.data import ImageSplit
from trainables.images.figures import image_figures, tile_drawing
from trainables.images.objective import fixed_noise
from trainables.images.pictures import (
    ADDED,
    GAP_PX,
    STEPS,
    TEMPERATURES,
    arithmetic,
    interpolations,
    linear,
    moved,
    nearest_pairs,
    one_of_each,
    plane,
    posterior_samples,
    prior_samples,
    reconstruction_image,
    reconstructions,
    sample_image,
    shared_classes,
    spherical,
    tiled,
    traversals,
)

SHARES = torch.linspace(0, 1, 5)


def test_an_arc_keeps_the_norm_and_ends_at_its_ends():
    a, b = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([0.0, 5.0, 0.0])
    points = spherical(a, b, SHARES)
    torch.testing.assert_close(points.norm(dim=1), torch.full((5,), 5.0))
    torch.testing.assert_close(points[[0, -1]], torch.stack([a, b]))
    assert linear(a, b, SHARES)[2].norm() < 4


def test_an_arc_between_parallel_points_is_a_line():
    a = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(spherical(a, 2 * a, SHARES), linear(a, 2 * a, SHARES))
    assert spherical(torch.zeros(2), a, SHARES).isfinite().all()


def test_a_traversal_moves_one_coordinate():
    z = torch.tensor([0.1, 0.2, 0.3])
    copies = moved(z, torch.tensor([2, 0]), torch.tensor([-1.0, 1.0]))
    assert copies.tolist() == [
        [pytest.approx([0.1, 0.2, -1]), pytest.approx([0.1, 0.2, 1])],
        [pytest.approx([-1, 0.2, 0.3]), pytest.approx([1, 0.2, 0.3])],
    ]


def test_dimensions_are_taken_by_how_much_they_vary():
    model, split = network(), images()
    tiles, dimensions = traversals(model, split, count=2)
    variances = model.encode(split.fixed_pixels("binary")).mu.var(dim=0)
    assert tiles.shape == (2, STEPS, 1, 4, 4)
    assert dimensions.tolist() == variances.argsort(descending=True)[:2].tolist()


def test_images_shown_are_of_all_classes_in_turn():
    split = images(30)
    assert split.labels[one_of_each(split, 10)].tolist() == list(range(10))
    assert len(set(one_of_each(split, 25).tolist())) == 25


def test_two_latents_are_shown_as_they_are_and_more_by_their_principal_components():
    mu = torch.randn(50, 2)
    assert plane(mu)[0] is mu or torch.equal(plane(mu)[0], mu)
    assert plane(mu[:, :1])[0].tolist() == [[one, 0.0] for one in mu[:, 0].tolist()]
    flat = torch.randn(50, 2) @ torch.randn(2, 5)
    points, share = plane(flat)
    assert share == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(torch.pdist(points), torch.pdist(flat))


def test_interpolations_begin_and_end_with_the_images():
    split = images(20)
    rows = interpolations(network(), split, pairs=2)
    assert rows.shape == (4, STEPS + 2, 1, 4, 4)
    shown = split.fixed_pixels("binary")[one_of_each(split, 4)]
    torch.testing.assert_close(rows[[0, 2], 0], shown[0::2])
    torch.testing.assert_close(rows[[1, 3], -1], shown[1::2])


@pytest.fixture
def by_hand():
    """A linear VAE whose decoded images lie in [0, 1], images of three classes, of the last of which there is one, and their posteriors."""
    torch.manual_seed(0)
    model = linear_vae()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(0.1)
        levels = torch.randint(0, 256, (9, D, 1, 1), dtype=torch.uint8)
        split = ImageSplit(levels, torch.tensor([0, 1, 1, 0, 2, 1, 0, 0, 1]), binary=False, dynamic=False)
        return model, split, model.encode(split.fixed_pixels("unit"))


def decoded(model, z):
    """What a linear decoder makes of latents [N, L]: [N, D]."""
    weight, bias = (model.decoder.get_parameter(f"0.{name}").detach() for name in ("weight", "bias"))
    return 0.5 + z @ weight.T + bias


def test_arithmetic_adds_the_difference_of_two_classes(by_hand):
    model, split, posterior = by_hand
    tiles, pairs = arithmetic(model, split)
    assert pairs == [(0, 1), (1, 0)]  # class 2 has no mean of its own
    means = [posterior.mu[split.labels == label].mean(dim=0) for label in (0, 1)]
    for row, (own, other) in zip(tiles[..., 0, 0], pairs, strict=True):
        image = own  # the first of class 0 is image 0, that of class 1 image 1
        sums = [posterior.mu[image] + share * (means[other] - means[own]) for share in ADDED]
        torch.testing.assert_close(row[0], split.fixed_pixels("unit")[image, :, 0, 0])
        torch.testing.assert_close(row[1:], decoded(model, torch.stack([means[own], means[other], *sums])))
        # Through a linear decoder, image - own + other is the same in pixels.
        whole = 3 + ADDED.index(1)
        torch.testing.assert_close(row[whole], row[3] - row[1] + row[2])


def test_arithmetic_needs_two_classes():
    split = images(12)
    alone = ImageSplit(split.images, torch.zeros(12, dtype=torch.long), binary=True, dynamic=False)
    assert shared_classes(images(12)) == [0, 1]  # of ten; the others have one image each
    assert "arithmetic" not in image_figures(network(), alone)
    with pytest.raises(ValueError, match="two classes"):
        arithmetic(network(), alone)


def test_pairs_are_of_the_nearest():
    points = torch.tensor([[0.0], [10.0], [1.0], [12.0], [30.0]])
    assert nearest_pairs(points, 5) == [(0, 2), (1, 3)]
    assert nearest_pairs(points, 1) == [(0, 2)]


def test_draws_of_a_posterior_lie_around_its_mean(by_hand):
    model, split, posterior = by_hand
    rows = posterior_samples(model, split, rows=3, draws=5)[..., 0, 0]
    assert rows.shape == (3, 7, D)
    noise = fixed_noise(3, 5, posterior.mu.shape[1])
    for row, image, own in zip(rows, (0, 1, 4), noise, strict=True):
        torch.testing.assert_close(row[0], split.fixed_pixels("unit")[image, :, 0, 0])
        torch.testing.assert_close(row[1:2], decoded(model, posterior.mu[image][None]))
        z = posterior.mu[image] + (posterior.logvar[image] / 2).exp() * own
        torch.testing.assert_close(row[2:], decoded(model, z))


def test_samples_are_the_same_draws_at_every_temperature():
    model = network()
    tiles = prior_samples(model, columns=3)
    assert tiles.shape == (len(TEMPERATURES), 3, 1, 4, 4)
    torch.testing.assert_close(tiles, prior_samples(model, columns=3), rtol=0, atol=0)


def test_tiles_become_one_image():
    tiles = torch.zeros(2, 3, 1, 42, 42)
    tiles[1, 2] = 1
    image = tiled(tiles)
    side = 84 + GAP_PX
    assert image.shape == (3, 2 * side + GAP_PX, 3 * side + GAP_PX)
    assert (image[:, side + GAP_PX : 2 * side, 2 * side + GAP_PX : 3 * side] == 1).all()
    assert (image[:, GAP_PX:side, GAP_PX:side] == 0).all()


def test_images_for_tensorboard_are_in_range():
    model, split = network(), images()
    for image in (reconstruction_image(model, split), sample_image(model)):
        assert image.shape[0] == 3
        assert 0 <= image.min() <= image.max() <= 1
    assert reconstructions(model, split).shape == (2, 10, 1, 4, 4)


TILES = ("arithmetic", "interpolations", "posteriors", "reconstructions", "samples", "traversals")


def test_every_figure_is_written(tmp_path):
    """The levels of its tiles, or the places of its dots, are those of its CSV file."""
    model, split = network(), images()
    figures = image_figures(model, split)
    assert sorted(figures) == sorted([*TILES, "latents"])
    for name in TILES:
        figure, table = written(figures[name], tmp_path / name)
        assert np.array_equal(np.stack(drawn_images(figure)), pixels(table, "level"))
        assert imread(tmp_path / name / "figure.png").std() > 0.01
    figure, table = written(figures["latents"], tmp_path / "latents")
    names = [name for name in table if name != "class"]
    mu = model.encode(split.fixed_pixels("binary")).mu.detach()
    assert np.allclose(table[names], plane(mu)[0], rtol=1e-4, atol=1e-5)
    assert marks(figure.axes[0], "x") == numbers(table[names[0]])
    assert marks(figure.axes[0], "y") == numbers(table[names[1]])
    assert table["class"].tolist() == split.labels.tolist()


def test_large_images_are_shown_smaller(tmp_path):
    """A tile has no room for more than 64 pixels along a side; blocks of four are their mean."""
    tiles = torch.rand(1, 2, 1, 100, 100)
    _, table = written(lambda: tile_drawing(tiles, "title", ["row"], note=""), tmp_path)
    expected = torch.nn.functional.avg_pool2d(tiles[0, :, 0], 2)
    assert np.allclose(pixels(table, "level") / 255, expected, atol=0.51 / 255)
