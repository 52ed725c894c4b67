"""What a lens took, made sharp again: by Richardson-Lucy and by Wiener filters, with the kernels of each place.

    python examples/deconvolve.py results/runs/NAME/model --out deconvolve.png

Without a model, the ray tracer takes its place, with the Cooke triplet's kernels.
"""

import argparse
from pathlib import Path

import skimage
import torch
from torch import Tensor

from results import load_model
from trainables.images.similarity import psnr
from trainables.imaging.chart import chart
from trainables.imaging.pictures import read_picture, write_picture
from trainables.psf.traced import traced_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--picture", type=Path, default=Path(skimage.__file__).parent / "data" / "astronaut.png")
    parser.add_argument("--chart", action="store_true", help="a test chart, drawn, in place of the picture")
    parser.add_argument(
        "--pixels", type=int, default=512, help="a square of so many is cut out of the picture's top left"
    )
    parser.add_argument("--electrons", type=float, default=20000, help="of the brightest pixel: photon noise")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--pixel-um", type=float, default=13.65, help="side of a pixel on the sensor")
    parser.add_argument("--out", type=Path, default=Path("deconvolve.png"))
    arguments = parser.parse_args()

    model = load_model(arguments.model) if arguments.model else traced_model()
    side = arguments.pixels
    picture = chart(side, side) if arguments.chart else read_picture(arguments.picture)[..., :side, :side]
    how = {"pixel_um": arguments.pixel_um, "distortion": False}
    torch.manual_seed(0)
    with torch.no_grad():
        light = model.render(picture, **how).clamp_min(0)
        seen = torch.poisson(arguments.electrons * light) / arguments.electrons
        found = {
            "as taken": seen,
            "Richardson-Lucy": model.restore(seen, iterations=arguments.iterations, **how),
            "Wiener": model.restore(seen, method="wiener", noise=noise(seen, arguments.electrons), **how),
        }
    for name, one in found.items():
        print(f"{name:16} {psnr(one, picture).item():.2f} dB")
    third = side // 3
    crops = [one[..., :third, third : 2 * third] for one in (picture, *found.values())]
    write_picture(arguments.out, torch.cat(crops, dim=-1).repeat_interleave(2, -1).repeat_interleave(2, -2))
    print(f"{arguments.out}: the picture, {', '.join(found)}")


def noise(seen: Tensor, electrons: float) -> float:
    """Variance of the noise over the mean square difference between neighbours, both from what was taken."""
    variance = seen.mean() / electrons
    differences = (seen.diff(dim=-1).square().mean() + seen.diff(dim=-2).square().mean()) / 2 - 2 * variance
    return float(variance / differences.clamp_min(variance / 10))


if __name__ == "__main__":
    main()
