"""A photograph as a lens sees it: distorted, and blurred by the kernels of each place.

    python examples/render_picture.py results/runs/NAME/model --out render_picture.png

The model is one with red, green and blue. Without one, the ray tracer takes its place, with the Cooke triplet's kernels.
"""

import argparse
import time
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
    parser.add_argument("--pixels", type=int, default=512, help="a square of so many is cut out of the middle")
    parser.add_argument("--out", type=Path, default=Path("render_picture.png"))
    arguments = parser.parse_args()

    model = load_model(arguments.model) if arguments.model else traced_model()
    side = arguments.pixels
    picture = chart(side, side) if arguments.chart else middle(read_picture(arguments.picture), side)
    size = (picture.shape[-2], picture.shape[-1])
    with torch.no_grad():
        began = time.perf_counter()
        lens = model.operator(size)  # the kernels; to be used for as many pictures as you like
        made = time.perf_counter()
        seen = lens(picture)
        rendered = time.perf_counter()
        straight = model.render(picture, distortion=False)
    print(
        f"kernels of 24 x 24 patches in {made - began:.2f} s, {size[1]} x {size[0]} pixels in {rendered - made:.2f} s"
    )
    print(
        f"PSNR to the picture: {psnr(straight, picture).item():.1f} dB by blur alone, {psnr(seen, picture).item():.1f} dB with distortion"
    )

    side = min(size) // 5
    places = [tuple((one - side) // 2 for one in size), (0, 0)]
    rows = [torch.cat([crop(one, *place, side) for one in (picture, seen)], dim=-1) for place in places]
    write_picture(arguments.out, torch.cat(rows, dim=-2).repeat_interleave(2, -1).repeat_interleave(2, -2))
    print(f"{arguments.out}: the middle, and the top left corner; the picture, and what the lens makes of it")


def middle(picture: Tensor, side: int) -> Tensor:
    side = min(side, *picture.shape[-2:])
    top, left = ((one - side) // 2 for one in picture.shape[-2:])
    return crop(picture, top, left, side)


def crop(picture: Tensor, top: int, left: int, side: int) -> Tensor:
    return picture[..., top : top + side, left : left + side]


if __name__ == "__main__":
    main()
