import numpy as np
import pytest
import torch

from tests.trainables.images.conftest import write_mnist
from trainables.images.data import ImageSplit, ImageTensors, TrainingImages, nats_of_levels, reflected
from trainables.images.image_data import ImageData


def grey(levels: list[int], **keys) -> ImageSplit:
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1)
    return ImageSplit(images, torch.zeros(len(levels), dtype=torch.long), **{"binary": False, "dynamic": False, **keys})


def test_pixels_are_what_each_likelihood_takes():
    split = grey([0, 51, 255])
    assert split.as_pixels(split.images, "levels").flatten().tolist() == pytest.approx([0, 0.2, 1])
    chance = torch.tensor([0.0, 0.5, 0.999]).view(3, 1, 1, 1)
    continuous = split.as_pixels(split.images, "unit", chance).flatten()
    assert continuous.tolist() == pytest.approx([0, 51.5 / 256, 255.999 / 256])
    assert continuous.max() < 1
    assert (continuous * 256).floor().tolist() == [0, 51, 255]


def test_dynamic_pixels_are_drawn_and_static_ones_are_as_they_are():
    split = grey([0, 51, 255] * 20_000, dynamic=True)
    drawn = split.as_pixels(split.images, "binary", torch.rand(split.images.shape)).view(-1, 3)
    assert drawn.mean(dim=0).tolist() == pytest.approx([0, 0.2, 1], abs=0.01)
    again = split.as_pixels(split.images, "binary", torch.rand(split.images.shape)).view(-1, 3)
    assert (again != drawn).any()
    static = grey([0, 1, 1], binary=True)
    assert not static.needs_chance("binary")
    assert static.as_pixels(static.images, "binary").flatten().tolist() == [0, 1, 1]


@pytest.mark.parametrize(("keys", "space"), [({}, "binary"), ({"binary": True}, "unit"), ({"dynamic": True}, "levels")])
def test_pixels_of_another_kind_are_refused(keys, space):
    split = grey([0, 1], **keys)
    with pytest.raises(ValueError, match=f"'{space}' pixels"):
        split.as_pixels(split.images, space, torch.rand(2, 1, 1, 1))


def test_the_chances_of_held_out_pixels_are_fixed():
    split = grey(list(range(100)))
    torch.testing.assert_close(split.fixed_pixels("unit"), split.fixed_pixels("unit"), rtol=0, atol=0)
    assert split.fixed_pixels("unit").flatten().tolist() != [(level + 0.5) / 256 for level in range(100)]


def test_a_uniform_density_is_a_uniform_mass():
    """-log of the density 1 is 0 nats; of a mass of 1/256 for each level it is 8 bits a value."""
    assert nats_of_levels("unit", 10) == pytest.approx(10 * 8 * np.log(2))
    assert nats_of_levels("levels", 10) == nats_of_levels("binary", 10) == 0


def test_prepared_sets_are_opened(tmp_path, prepare):
    write_mnist(tmp_path)
    sets = prepare(ImageData(images="mnist", root=str(tmp_path), binarise="dynamic"))
    data = ImageTensors.load(sets)
    assert data.train.whole.dynamic
    assert not data.train.whole.binary
    assert data.train.whole.of_bits
    assert data.validation.binary
    assert (len(data.train), len(data.validation)) == (50, 10)
    assert data.train.shape == (1, 8, 8)
    assert data.validation.elements == 64
    assert data.device == torch.device("cpu")
    assert data.validation.first(3).labels.tolist() == data.validation.labels[:3].tolist()


def photographs(flip: bool = False) -> TrainingImages:
    """Two windows, 4 x 5 and 3 x 3, in which every pixel has a level of its own, beside each other; crops of 3."""
    canvas = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    canvas[0, 0, :4, :5] = torch.arange(1, 21).view(4, 5)
    canvas[0, 0, :3, 5:] = torch.arange(101, 110).view(3, 3)
    windows = torch.tensor([[0, 0, 4, 5], [0, 5, 3, 3]])
    whole = ImageSplit(canvas, torch.zeros(2, dtype=torch.long), binary=False, dynamic=False)
    return TrainingImages(whole, 3, windows, flip=flip)


def crops(train: TrainingImages, count: int = 5000) -> list[tuple[int, ...]]:
    images = train.images(train.draw(count, torch.Generator().manual_seed(0)))
    assert images.shape == (count, 1, 3, 3)
    return [tuple(image.flatten().tolist()) for image in images]


def test_every_crop_within_a_window_is_drawn_equally_often_and_no_other():
    train = photographs()
    assert len(train) == 2 * 3 + 1
    drawn = crops(train)
    expected = {
        tuple((torch.arange(1, 21).view(4, 5)[top : top + 3, left : left + 3]).flatten().tolist())
        for top in range(2)
        for left in range(3)
    } | {tuple(range(101, 110))}
    assert set(drawn) == expected
    shares = [drawn.count(one) / len(drawn) for one in expected]
    assert shares == pytest.approx([1 / 7] * 7, abs=0.02)


def test_flipped_crops_are_mirror_images_of_the_others():
    straight, both = set(crops(photographs())), crops(photographs(flip=True))
    mirrored = {tuple(torch.tensor(one).view(3, 3).flip(1).flatten().tolist()) for one in straight}
    assert set(both) == straight | mirrored
    assert sum(one in straight for one in both) / len(both) == pytest.approx(0.5, abs=0.03)


def test_shifted_images_move_by_as_much_each_way_and_mirror_their_edges():
    assert reflected(torch.arange(-2, 6), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
    image = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    whole = ImageSplit(image, torch.zeros(1, dtype=torch.long), binary=False, dynamic=False)
    train = TrainingImages(whole, 4, shift=2)
    places = train.draw(2000, torch.Generator().manual_seed(0))
    assert set(places[:, 1].tolist()) == set(places[:, 2].tolist()) == {-2, -1, 0, 1, 2}
    assert not places[:, [0, 3]].any()
    moved = train.images(torch.tensor([[0, 1, -1, 0], [0, 0, 0, 0]]))
    assert moved[0, 0].tolist() == [[5, 4, 5, 6], [9, 8, 9, 10], [13, 12, 13, 14], [9, 8, 9, 10]]
    assert torch.equal(moved[1], image[0])


def test_images_as_they_are_are_drawn_evenly():
    train = TrainingImages(grey([10, 20, 30]), 1)
    drawn = train.images(train.draw(3000, torch.Generator().manual_seed(0))).flatten().tolist()
    assert [drawn.count(level) / 3000 for level in (10, 20, 30)] == pytest.approx([1 / 3] * 3, abs=0.03)


def test_a_sample_stands_for_the_training_images_and_is_always_the_same():
    train = photographs()
    sample = train.sample(50)
    assert sample.images.shape == (50, 1, 3, 3)
    assert {tuple(one.flatten().tolist()) for one in sample.images} <= set(crops(train))
    assert torch.equal(sample.images, train.sample(50).images)
    plain = TrainingImages(grey([1, 2, 3]), 1, flip=True, shift=0)
    assert plain.sample(2).images.flatten().tolist() == [1, 2]
    assert len(plain.sample(9)) == 3
