"""Convolution or linear layer with its BatchNorm, and the exact folding of one into the other."""

from copy import deepcopy
from typing import Any, cast

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from recnext.errors import RecNextError


def norm_scale_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The affine map ``x * scale + shift`` that a BatchNorm is in eval mode, in float64.

    Frozen norms without an `eps`, as DETR's, have 1e-5.

    Returns:
        Two tensors of shape (C,), float64.
    """
    norm = cast(nn.BatchNorm2d, norm)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = (norm.running_var.double() + getattr(norm, "eps", 1e-5)).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale, shift


class ConvNorm(nn.Sequential):
    """Conv2d followed by BatchNorm2d; children `conv` and `norm`.

    ``fuse()`` gives the single Conv2d (with bias) that equals the pair in eval mode.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.add_module(
            "conv",
            nn.Conv2d(
                in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=bias, **dd
            ),
        )
        self.add_module("norm", nn.BatchNorm2d(out_channels, **dd))

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """One Conv2d equal to convolution and norm in eval mode, up to rounding."""
        fused = with_bias(cast(nn.Conv2d, self.conv))
        scale_outputs(fused, *norm_scale_shift(cast(nn.Module, self.norm)))
        return fused


class NormLinear(nn.Sequential):
    """BatchNorm1d followed by Linear; children `norm` and `linear`.

    ``fuse()`` gives the single Linear that equals the pair in eval mode.
    """

    def __init__(self, in_features: int, out_features: int, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.add_module("norm", nn.BatchNorm1d(in_features, **dd))
        linear = nn.Linear(in_features, out_features, **dd)
        trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        self.add_module("linear", linear)

    @torch.no_grad()
    def fuse(self) -> nn.Linear:
        """One Linear equal to norm and linear layer in eval mode, up to rounding."""
        linear = cast(nn.Linear, foldable(cast(nn.Module, self.linear), nn.Linear))
        fused = deepcopy(linear)
        scale, shift = norm_scale_shift(cast(nn.Module, self.norm))
        weight = linear.weight.double()
        fused.weight.copy_(weight * scale)
        fused.bias.copy_(linear.bias.double() + weight @ shift)
        return fused


def foldable(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The layer, if a norm can be folded into it.

    Raises:
        RecNextError: something else stands in its place.
    """
    if not isinstance(layer, kind):
        raise RecNextError(
            f"fuse: {type(layer).__name__} stands in place of {kind.__name__}: "
            "merge adapters into their layers first (PEFT: merge_and_unload())"
        )
    return layer


def with_bias(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy of a convolution that has a bias (zero if there was none)."""
    copy = cast(nn.Conv2d, deepcopy(foldable(conv, nn.Conv2d)))
    if copy.bias is None:
        copy.bias = nn.Parameter(copy.weight.detach().new_zeros(copy.out_channels))
    return copy


@torch.no_grad()
def scale_outputs(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Makes ``conv(x)`` give ``conv(x) * scale + shift``, in place; the convolution has a bias."""
    foldable(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
    conv.bias.copy_(conv.bias.double() * scale + shift)


@torch.no_grad()
def shift_inputs(conv: nn.Conv2d, shift: Tensor) -> None:
    """Makes ``conv(x)`` give ``conv(x + shift)``, in place, for a 1x1 ungrouped convolution with a bias."""
    foldable(conv, nn.Conv2d)
    assert conv.bias is not None
    assert conv.kernel_size == (1, 1)
    assert conv.groups == 1
    conv.bias.copy_(conv.bias.double() + conv.weight.double().flatten(1) @ shift)


@torch.no_grad()
def scale_inputs(conv: nn.Conv2d, scale: Tensor) -> None:
    """Makes ``conv(x)`` give ``conv(x * scale)``, in place, for an ungrouped convolution."""
    foldable(conv, nn.Conv2d)
    assert conv.groups == 1
    conv.weight.copy_(conv.weight.double() * scale[None, :, None, None])
