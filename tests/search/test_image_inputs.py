"""What a newcomer to VAEs of images gets wrong is one line with exit code 2, and a plan says what it would take."""

import re

import numpy as np
import pytest
from PIL import Image

from search import estimate
from search.cli import main

RUN = ["run", "--dry-run", "--space"]
FOLDER = ["vae_cifar10", "--set", "data.images=folder", "--set"]


@pytest.fixture
def pictures(tmp_path):
    """60 of noise, 80 px; and a folder that has none."""
    random = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "pictures" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (80, 80, 3), np.uint8)).save(path)
    (tmp_path / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vae_celebs"], "did you mean 'vae_celeba'"),
        (["vae_celeba", "--preset", "qick"], "did you mean 'quick'"),
        (["vae_mnist", "--set", "data.image=mnist"], "data.image: unknown key; did you mean 'images'"),
        (["vae_mnist", "--set", "data.images=mnst"], "'mnist_5k', 'mnist', 'fashion_mnist'"),
        (["vae_mnist", "--set", "search.network.choices=[conv, vgg]"], "'conv', 'resnet', 'residual' or 'bottleneck'"),
        (["vae_mnist", "--set", "fixed.likelihood=gauss"], "'gaussian_half', 'gaussian_fixed'"),
        (["vae_mnist", "--set", "fixed.latent=3"], "did you mean 'latent_dim'"),
        # Folders that are not there, not named, or not asked for.
        (["vae_mnist", "--set", "data.images=mnist"], "needs `root`, a folder with its files"),
        (["vae_mnist", "--set", "data.root=ROOT"], "`images: mnist_5k` comes with a package and takes no `root`"),
        (["vae_mnist", "--set", "data.images=mnist", "--set", "data.root=ROOT"], "put train-images-idx3-ubyte(.gz)"),
        (["vae_cifar10", "--set", "data.images=cifar10", "--set", "data.root=/missing"], "put data_batch_1(.bin)"),
        (["vae_celeba", "--set", "data.images=celeba", "--set", "data.root=ROOT"], "put list_eval_partition.txt"),
        ([*FOLDER, "data.root=/missing"], "data.root: no folder /missing"),
        ([*FOLDER, "data.root=~/missing"], "/missing"),
        ([*FOLDER, "data.root=ROOT/notes"], "no picture is in"),
        (
            ["vae_residual", "--preset", "full"],
            "vae_residual.yaml: budget.full.set: data: `images: folder` needs `root`",
        ),
        (["vae_celeba", "--preset", "full"], "vae_celeba.yaml: budget.full.set: data: `images: celeba` needs `root`"),
        (["vae_celeba", "--set", "data.vgg16=/missing.pth"], "data.vgg16: /missing.pth: No such file"),
        # Sizes that a network cannot halve, or a loss cannot use.
        (["vae_mnist", "--set", "fixed.levels=3"], "multiple of 8 for 3 halvings, but got 28"),
        (
            ["vae_cifar10", "--set", "data.px=30"],
            "--set data.px=30: data: `images: patches`: `px` must be a multiple of 8",
        ),
        (
            [*FOLDER, "data.root=ROOT/pictures", "--set", "data.px=36"],
            "--set data.images=folder --set data.root=ROOT/pictures --set data.px=36: data: `images: folder`: `px` must",
        ),
        (["vae_residual", "--set", "data.px=48"], "but got 48; nearest: 64"),
        (["vae_residual", "--set", "search.scales.choices=[1, 3, 5]"], "with 5 scales `px >= 176` must hold"),
        (["vae_cifar10", "--set", "data.px=4"], "data.px: input should be greater than or equal to 8"),
        (["vae_mnist", "--set", "data.px=32"], "has images of 28 pixels, which stay so"),
        (["vae_cifar10", "--set", "data.channels=1"], "or `images: patches_grey`, but got 1"),
        # Pixels of one kind and a likelihood, or an objective, of another.
        (["vae_mnist", "--set", "fixed.likelihood=laplace"], "`likelihood: laplace` needs `data.binarise: none`"),
        (["vae_residual", "--set", "fixed.likelihood=bernoulli"], "needs `data.binarise: static` or `dynamic`"),
        (["vae_cifar10", "--set", "data.binarise=dynamic"], "needs `binarise: none`, but got 'dynamic'"),
        (["vae_mnist", "--set", "data.binarise=none"], "'val/nll' is not measured on such data; valid: val/bpd"),
        (["vae_celeba", "--set", "fixed.perceptual_weight=0.1"], "`perceptual_weight` above 0 needs `data.vgg16`"),
    ],
)
def test_bad_input_of_images(pictures, capsys, arguments, says):
    here = str(pictures)
    with pytest.raises(SystemExit) as ended:
        main([*RUN, *(one.replace("ROOT", here) for one in arguments), "--out", here])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert says.replace("ROOT", here) in said


def test_a_plan_of_images_says_how_long_it_takes_before_anything_is_prepared(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    places = ["--out", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    with pytest.raises(SystemExit) as ended:
        main([*RUN, "vae_mnist", "--preset", "quick", "--set", "search.network.recommended=mlp", *places])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert re.search(r"^time +about \d+( to \d+)? min", said, re.MULTILINE)
    assert re.search(r"^work .* optimizer steps", said, re.MULTILINE)
    assert not list(tmp_path.iterdir())
