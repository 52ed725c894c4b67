"""A model's kernels beside the true ones, as one image for TensorBoard.

Shape legend: N = field point, C = channel (red first), K = kernel side in pixels, R = 4 rows, S = side of a tile in image
pixels, d = condition dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from deeplens_workers.field import centre_to_corner
from trainables.learner import evaluating
from trainables.psf.cvae import CVAE
from trainables.psf.data import PsfTensors
from trainables.psf.metrics import known

COLUMNS = 6
# Shown brightness is (value / peak)^GAMMA, so that a coma's tail shows beside its core.
GAMMA = 0.5
# A residual of so much of the true kernel's peak is black or white. Fixed: the images of all trials compare.
FULL_RESIDUAL = 0.1
# A kernel's side on the screen: its pixels are repeated as often as fits, 8 times for 15 of them.
TILE_PX = 120
GAP_PX = 2
GAP_GREY = 0.25


def comparison_image(true: Tensor, reconstructed: Tensor, predicted: Tensor) -> Tensor:
    """One image [3, H, W] in [0, 1] of kernels [N, C, K, K] each.

    Columns are the N kernels; rows are true, reconstructed, predicted, and predicted - true. A column is scaled by its true
    kernel's peak over all channels. In the last row mid-grey is no difference and white `FULL_RESIDUAL` of the peak more
    than true. Three channels are red, green and blue; of other numbers the first is shown in grey.
    """
    peak = true.amax(dim=(1, 2, 3), keepdim=True)
    rows = [(kernels / peak).clamp(0, 1) ** GAMMA for kernels in (true, reconstructed, predicted)]
    rows.append(((predicted - true) / (FULL_RESIDUAL * peak)).clamp(-1, 1) / 2 + 0.5)
    tiles = torch.stack(rows)  # [R, N, C, K, K]
    if tiles.shape[2] != 3:
        tiles = tiles[:, :, :1].expand(-1, -1, 3, -1, -1)
    times = max(1, TILE_PX // tiles.shape[-1])
    tiles = tiles.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)
    tiles = pad(tiles, (GAP_PX, 0, GAP_PX, 0), value=GAP_GREY)  # [R, N, 3, S, S]
    image = tiles.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return pad(image, (0, GAP_PX, 0, GAP_PX), value=GAP_GREY)


def psf_image(model: CVAE, data: PsfTensors) -> Tensor:
    """`comparison_image` on the CPU at `COLUMNS` held-out positions from the field's centre to its corner.

    Reconstructed is the decoded mean of the posterior, predicted is `model.predict`.
    """
    with evaluating(model):
        seen = known(model, data)
        shown = torch.from_numpy(centre_to_corner(seen.points.cpu().numpy(), COLUMNS))
        values, kernels, points = (one[shown] for one in seen)
        reconstructed = model.decode(model.encode(values, points).mu, points)
        return comparison_image(kernels, reconstructed, model.predict(points)).cpu()
