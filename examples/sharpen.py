"""End to end: one sharpening kernel, found by gradient descent through the lens.

    python examples/sharpen.py results/runs/NAME/model --out sharpen.png

A projector sharpens a picture before its lens blurs it. The kernel is optimised so that what comes out of the lens is the picture: gradients go
back through the lens. Without a model, the ray tracer takes its place, with the Cooke triplet's kernels.
"""

import argparse
from pathlib import Path

import skimage
import torch
from torch import Tensor
from torch.nn import functional as F

from results import load_model
from trainables.images.similarity import psnr
from trainables.imaging.chart import chart
from trainables.imaging.pictures import read_picture, write_picture
from trainables.psf.traced import traced_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--pixels", type=int, default=256, help="along a side of the pictures")
    parser.add_argument("--chart", action="store_true", help="test charts, drawn, in place of the pictures")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pixel-um", type=float, default=13.65, help="side of a pixel on the sensor")
    parser.add_argument("--out", type=Path, default=Path("sharpen.png"))
    arguments = parser.parse_args()

    model = load_model(arguments.model) if arguments.model else traced_model()
    side = arguments.pixels
    if arguments.chart:
        pictures = torch.cat([chart(side, side, cell, spokes) for cell, spokes in ((64, 18), (85, 12))])
    else:
        data = Path(skimage.__file__).parent / "data"
        photographs = [read_picture(data / name)[..., :512, :512] for name in ("astronaut.png", "ihc.png")]
        pictures = F.interpolate(torch.cat(photographs), (side, side), mode="area")
    with torch.no_grad():
        lens = model.operator((side, side), pixel_um=arguments.pixel_um, distortion=False)
    kernel = torch.zeros(7, 7, requires_grad=True)
    optimizer = torch.optim.Adam([kernel], lr=0.01)
    for step in range(arguments.steps):
        loss = (lens(sharpened(pictures[:1], kernel)) - pictures[:1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, arguments.steps // 5) == 0:
            print(f"step {step}: loss {loss.item():.6f}")
    print(f"last loss {loss.item():.6f}")
    with torch.no_grad():
        plain, found = lens(pictures[1:]), lens(sharpened(pictures[1:], kernel))
    print(
        f"another picture: {psnr(plain, pictures[1:]).item():.2f} dB as it comes, {psnr(found, pictures[1:]).item():.2f} dB sharpened first"
    )
    write_picture(arguments.out, torch.cat([pictures[1:], plain, found], dim=-1))


def sharpened(picture: Tensor, kernel: Tensor) -> Tensor:
    """The picture and, of every channel, what the kernel without its mean finds in it: what is even stays as it is."""
    weights = (kernel - kernel.mean()).expand(3, 1, -1, -1)
    return picture + F.conv2d(F.pad(picture, 4 * [3], mode="replicate"), weights, groups=3)


if __name__ == "__main__":
    main()
