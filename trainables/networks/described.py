"""Networks as plain lists of layers, which a page runs in JavaScript (results/explorer/network.js).

A layer is JSON: its `op`, its numbers, and `weights`, by the names that they have in an exported model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spaces.explorer import Layer
from trainables.networks.blocks import ResidualBlock


class NotDescribed(ValueError):
    """A network has a layer that a page does not know; the message names it."""


def described(module: nn.Module, name: str) -> list[Layer]:
    """The layers of a network that is `name` of its model, as they work in evaluation.

    Raises:
        NotDescribed: a page does not know one of them.
    """
    if isinstance(module, nn.Sequential):
        return [layer for key, child in module.named_children() for layer in described(child, f"{name}.{key}")]
    if isinstance(module, ResidualBlock):
        return [{"op": "residual", "layers": described(module.branch, f"{name}.branch")}]
    for kind, describe in LAYERS.items():
        if isinstance(module, kind):
            return describe(module, name)
    raise NotDescribed(f"{name} is a {type(module).__name__}")


def with_weights(module: nn.Module, name: str, op: str, **numbers: Any) -> list[Layer]:
    """A layer with the weights and statistics that it has."""
    shorts = {"weight": "w", "bias": "b", "running_mean": "mean", "running_var": "var"}
    weights = {short: f"{name}.{long}" for long, short in shorts.items() if getattr(module, long, None) is not None}
    return [{"op": op, **numbers, "weights": weights}]


def _convolution(module: nn.Module, name: str) -> list[Layer]:
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros" or module.groups != 1 or module.dilation != (1, 1):
        raise NotDescribed(f"{name} is a convolution of an unknown kind")
    return with_weights(module, name, "conv", stride=module.stride[0], padding=module.padding[0])


def _transposed(module: nn.Module, name: str) -> list[Layer]:
    assert isinstance(module, nn.ConvTranspose2d)
    numbers = {"stride": module.stride[0], "padding": module.padding[0], "more": module.output_padding[0]}
    return with_weights(module, name, "conv_transpose", **numbers)


def _upsampling(module: nn.Module, name: str) -> list[Layer]:
    assert isinstance(module, nn.Upsample)
    if module.mode != "bilinear" or module.scale_factor != 2 or module.align_corners:
        raise NotDescribed(f"{name} is an upsampling of an unknown kind")
    return [{"op": "twice"}]


LAYERS: dict[type[nn.Module], Callable[[Any, str], list[Layer]]] = {
    nn.Linear: lambda module, name: with_weights(module, name, "linear"),
    nn.SiLU: lambda module, name: [{"op": "silu"}],
    nn.LeakyReLU: lambda module, name: [{"op": "leaky_relu", "slope": module.negative_slope}],
    nn.Identity: lambda module, name: [],
    nn.Unflatten: lambda module, name: [{"op": "shape", "shape": list(module.unflattened_size)}],
    nn.BatchNorm2d: lambda module, name: with_weights(module, name, "batch_norm", eps=module.eps),
    nn.GroupNorm: lambda module, name: with_weights(
        module, name, "group_norm", eps=module.eps, groups=module.num_groups
    ),
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    nn.Upsample: _upsampling,
}


@torch.no_grad()
def multiplications(module: nn.Module, inputs: Tensor) -> int:
    """Of one call of a network, by its linear layers and convolutions; `inputs` is a batch of one."""
    total = 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, Tensor)
        places = given[0][0, 0].numel() if isinstance(layer, nn.ConvTranspose2d) else output[0, 0].numel()
        total += layer.weight.numel() * places

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [one.register_forward_hook(count) for one in module.modules() if isinstance(one, kinds)]
    try:
        module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return total
