"""Rendering pictures: kernels in patches and by few components, DeepLens' own map of kernels, and its ray tracing, in one run.

    python -m benchmarks.render_image                         # kernels are traced: what a perfect model would have
    python -m benchmarks.render_image --model DIR             # an exported model of the Cooke triplet
    python -m benchmarks.render_image --pixels 256 --rays 2   # a minute

The picture covers the whole field of the Cooke triplet; PSNR is in linear light, of what is 40 pixels (a sixteenth of a small picture)
away from the borders. Ray tracing is the truth, but noisy: two independent runs A and B give an error mean((a - A) (a - B)) that
their noise is not part of. Seconds are of the CPU, of rendering alone; kernels are made once for a lens and are told apart, but for
DeepLens, whose seconds have its kernels and its distortion.
`db` and `deeplens_db` are the PSNRs of 24 x 24 patches and of DeepLens' map, `cheaper` how many times more CPU seconds ray
tracing took than patches, `four_megapixels` their CPU seconds for 2048 x 2048 pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._shared import TINY_DATA, Options
from deeplens_workers.lens_file import find_lens
from trainables.exports import load_model
from trainables.images.source import packaged
from trainables.imaging.pictures import read_picture
from trainables.psf.model import PSFModel
from trainables.psf.traced import traced_model

DEEPLENS_KS = 15
WITHOUT_WARP = "patches 24 x 24, not distorted"


def picture(pixels: int) -> Tensor:
    """A photograph [1, 3, pixels, pixels] in linear light, with its mirror images where it is too small."""
    (path,) = packaged("scikit-image", ("skimage/data/astronaut.png",), "a photograph", "pip install scikit-image")
    light = read_picture(path)
    while light.shape[-1] < pixels:
        light = torch.cat([light, light.flip(-1)], dim=-1)
        light = torch.cat([light, light.flip(-2)], dim=-2)
    return F.interpolate(light, (pixels, pixels), mode="area")


def cpu_seconds[T](work: Callable[[], T]) -> tuple[T, float]:
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def unbiased_db(found: Tensor, truths: list[Tensor], border: int) -> float:
    """PSNR in dB, peak 1, by two noisy truths."""
    one, other = (found - truth for truth in truths)
    inside = (..., slice(border, -border), slice(border, -border))
    return float(-10 * torch.log10((one * other)[inside].mean().clamp_min(1e-9)))


def main() -> None:
    options = Options(__doc__)
    options.add_size("--pixels", 1024, 48, "along a side of the picture")
    options.add_size("--rays", 16, 2, "of each pixel, when tracing")
    options.add_size("--kernel-rays", 8192, 256, "of each of DeepLens' kernels")
    options.add_size("--warp-grid", 128, 8, "points along a side at which DeepLens traces its distortion")
    options.add_size("--large", 2048, 64, "pixels along a side of the large picture")
    options.add_argument("--model", type=Path, help="directory of an exported model; else kernels are traced")
    arguments = options.parse()

    from deeplens_workers.render import load

    model = load_model(arguments.model) if arguments.model else traced_model(*(TINY_DATA if arguments.tiny else ()))
    assert isinstance(model, PSFModel)
    lens, depth = find_lens("cooke_triplet_50mm"), model.optics.depths_mm[0]
    image, size = picture(arguments.pixels), 2 * (arguments.pixels,)
    deeplens = load(lens, 1e3 * lens.conditions.sensor_mm[0] / arguments.pixels).tracer._lens
    with torch.no_grad():
        traced = []
        for seed in range(2):
            torch.manual_seed(seed)
            traced.append(
                cpu_seconds(lambda: deeplens.render(image, depth=depth, method="ray_tracing", spp=arguments.rays))
            )
        truths = [one for one, _ in traced]
        border = min(40, arguments.pixels // 16)
        rows: dict[str, tuple[float, float, float]] = {
            f"ray tracing, {arguments.rays} rays a pixel": (0.0, traced[0][1], _noise_db(truths, border)),
            "the picture itself": (0.0, 0.0, unbiased_db(image, truths, border)),
        }
        torch.manual_seed(2)
        kwargs = {
            "psf_grid": (10, 10),
            "psf_ks": DEEPLENS_KS,
            "psf_spp": arguments.kernel_rays,
            "warp_grid": arguments.warp_grid,
        }
        theirs, seconds = cpu_seconds(lambda: deeplens.render(image, depth=depth, method="psf_map", **kwargs))
        rows[name_of_theirs := "DeepLens psf_map, 10 x 10"] = (0.0, seconds, unbiased_db(theirs, truths, border))
        ways: dict[str, dict[str, Any]] = {
            "patches 10 x 10": {"grid": (10, 10)},
            (patches := "patches 24 x 24"): {},
            WITHOUT_WARP: {"distortion": False},
            **{f"{rank} components": {"rank": rank} for rank in (4, 8, 16)},
        }
        for name, how in ways.items():
            operator, making = cpu_seconds(partial(model.operator, size, depth, **how))
            operator(image)  # the first allocates
            found, seconds = cpu_seconds(partial(operator, image))
            rows[name] = (making, seconds, unbiased_db(found, truths, border))
        large = torch.rand(1, 3, arguments.large, arguments.large)
        operator = model.operator((arguments.large, arguments.large), depth)
        operator(large)
        began = time.perf_counter()
        _, four = cpu_seconds(partial(operator, large))
        wall = time.perf_counter() - began
    print(f"{arguments.pixels} x {arguments.pixels} pixels, {torch.get_num_threads()} threads")
    print(f"{'':32}{'kernels, CPU s':>15}{'CPU s':>9}{'PSNR, dB':>10}")
    for name, (making, seconds, db) in rows.items():
        print(f"{name:32}{making:15.2f}{seconds:9.3f}{db:10.2f}")
    print(
        f"{arguments.large} x {arguments.large} pixels by patches 24 x 24: {four:.2f} CPU s, {wall:.2f} s by the clock"
    )
    print(
        f"db={rows[patches][2]:.2f} deeplens_db={rows[name_of_theirs][2]:.2f} undistorted_db={rows[WITHOUT_WARP][2]:.2f}"
    )
    print(f"cheaper={traced[0][1] / rows[patches][1]:.1f} four_megapixels={four:.3f}")


def _noise_db(truths: list[Tensor], border: int) -> float:
    """Of one ray-traced picture."""
    inside = (..., slice(border, -border), slice(border, -border))
    return float(-10 * torch.log10((truths[0] - truths[1])[inside].square().mean() / 2))


if __name__ == "__main__":
    main()
