"""Picture files as light, and light as picture files: sRGB (IEC 61966-2-1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def linear_light(values: Tensor) -> Tensor:
    """sRGB values in [0, 1] -> light in [0, 1]."""
    return torch.where(values <= 0.04045, values / 12.92, ((values.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def srgb(light: Tensor) -> Tensor:
    """Light -> sRGB values in [0, 1]; what is below 0 or above 1 is cut."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def read_picture(path: str | Path) -> Tensor:
    """The light [1, 3, H, W] of a picture file, in [0, 1].

    Raises:
        OSError: it is not there, or no picture.
    """
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB"), np.float32) / 255
    return linear_light(torch.from_numpy(values).permute(2, 0, 1)[None].contiguous())


def write_picture(path: str | Path, light: Tensor, colours: int | None = None) -> None:
    """Write light [1, 3, H, W] or [3, H, W] in [0, 1] as a picture file; its format is that of the name's ending.

    Args:
        colours: the most that there may be, which makes a small file of it.
    """
    values = (255 * srgb(light.detach().cpu()).view(-1, *light.shape[-2:])).round().byte()
    picture = Image.fromarray(values.permute(1, 2, 0).numpy())
    (picture if colours is None else picture.quantize(colours)).save(path, optimize=True)
