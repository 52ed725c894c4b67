"""One scene with depth, taken three times with the lens focused nearer and farther.

    python examples/refocus.py results/runs/NAME/model --focus -2200 -3000 -4500 --out refocus.png

Distortion is left out: focusing changes the scale of the picture a little, and these are to be compared pixel by pixel.
The model is one of field, depth and focus (space vae_psf) that knows the scene's distances. Without one, the ray tracer takes its place, with
the Cooke triplet's kernels. The scene is a motorcycle in a garage, 2.1 to 5 m away (Middlebury stereo, in scikit-image).
"""

import argparse
from pathlib import Path

import numpy as np
import skimage
import torch
from torch import Tensor
from torch.nn import functional as F

from results import load_model
from trainables.imaging.chart import chart
from trainables.imaging.pictures import read_picture, write_picture
from trainables.psf.traced import traced_model

SCENE = Path(skimage.__file__).parent / "data"
FOCAL_PX, BASELINE_MM, OFFSET_PX = 994.978, 193.001, 31.086  # of the stereo camera, as scikit-image tells
WIDER = ("data.depths_mm=[-2000,-6000]", "data.focus_mm=[-2000,-6000]")
WINDOW = (
    "data.pixel_pitch_um=6.4",
    "data.trace_px=64",
    "data.kernel_px=32",
    "data.rays=1024",
    "data.held_out_rays=8192",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument(
        "--chart", action="store_true", help="three test charts, drawn, at three distances, in its place"
    )
    parser.add_argument("--focus", type=float, nargs="+", default=[-2200.0, -3000.0, -4500.0], help="in mm, negative")
    parser.add_argument("--width", type=int, default=741, help="of the picture in pixels")
    parser.add_argument("--grid", type=int, default=12, help="patches of the picture along each side")
    parser.add_argument("--out", type=Path, default=Path("refocus.png"))
    arguments = parser.parse_args()

    model = load_model(arguments.model) if arguments.model else traced_model(*WIDER, *WINDOW)
    picture, depth = (charts if arguments.chart else scene)(arguments.width)
    print(f"depths from {depth.max():.0f} to {depth.min():.0f} mm")
    taken = []
    for focus in arguments.focus:
        with torch.no_grad():
            seen = model.render(picture, depth, focus, grid=2 * (arguments.grid,), layers=6, distortion=False)
        near, far = (sharpness(seen, mask) / sharpness(picture, mask) for mask in halves(depth))
        print(
            f"focused at {focus:.0f} mm: {near:.0%} of the detail of the near half is left, {far:.0%} of the far half"
        )
        taken.append(seen)
    write_picture(arguments.out, torch.cat(taken, dim=-2))


def scene(width: int) -> tuple[Tensor, Tensor]:
    """The picture [1, 3, H, W] and the depth [1, 1, H, W] of its pixels in mm, of the given width."""
    picture = read_picture(SCENE / "motorcycle_left.png")
    with np.load(SCENE / "motorcycle_disp.npz") as file:
        disparity = torch.from_numpy(file["arr_0"].astype(np.float32))[None, None]
    seen = disparity.isfinite() & (disparity > 0)
    depth = -BASELINE_MM * FOCAL_PX / (disparity + OFFSET_PX)
    farthest = depth[seen].quantile(0.001)
    depth = torch.where(seen, depth, farthest).clamp_min(farthest)  # what only one of its eyes saw lies behind
    size = (round(picture.shape[-2] * width / picture.shape[-1]), width)
    return F.interpolate(picture, size, mode="area"), F.interpolate(depth, size, mode="nearest")


def charts(width: int) -> tuple[Tensor, Tensor]:
    """The same of three charts side by side, 2.2, 3 and 4.5 m away."""
    third = width // 3
    depth = torch.tensor([-2200.0, -3000.0, -4500.0]).repeat_interleave(third).expand(1, 1, third, -1)
    return chart(third, 3 * third, cell=third // 3), depth


def halves(depth: Tensor) -> tuple[Tensor, Tensor]:
    middle = depth.median()
    return depth > middle, depth <= middle


def sharpness(picture: Tensor, mask: Tensor) -> float:
    """Mean square difference between neighbours along a row, within the mask."""
    steps = picture.diff(dim=-1).square().mean(dim=1, keepdim=True)
    return float(steps[mask[..., 1:]].mean())


if __name__ == "__main__":
    main()
