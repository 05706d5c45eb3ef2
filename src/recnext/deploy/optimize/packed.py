"""Convolutions whose weights are packed once for oneDNN, with the activation that follows computed in place.

PyTorch lays the weights of a channels_last convolution out anew at every call. The operators that torch.compile
uses when it freezes a network take them packed. Neither is documented, so that everything here is checked before
it is used and given up without a word where it is missing.
"""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

DTYPES = (torch.float32, torch.bfloat16)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the operators, for a device and a dtype."""
    if device.type != "cpu" or dtype not in DTYPES or not torch.backends.mkldnn.is_available():
        return False
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")


class PackedConv2d(nn.Module):
    """A convolution for inference in channels_last.

    Args:
        conv: its weight and bias are shared, the packed weight is a copy.
        shape: (N, C, H, W) of the input that the packing is chosen for; any other runs as well.
        activation: that follows, one of `fusible`.

    Shape:
        (N, C, H, W) to (N, C', H', W'), as `conv`.
    """

    def __init__(self, conv: nn.Conv2d, shape: Sequence[int], activation: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = "none" if activation is None else type(activation).__name__.lower()
        self.algorithm = activation.approximate if isinstance(activation, nn.GELU) else ""
        weight = conv.weight.detach().to_mkldnn()
        self.packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *self.geometry, list(shape))  # type: ignore[call-arg]

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, *self.geometry, self.activation, [], self.algorithm
        )


def fusible(module: nn.Module) -> bool:
    """Whether a PackedConv2d can compute this activation."""
    return type(module) in (nn.GELU, nn.ReLU)


def _packable(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


@torch.no_grad()
def pack(module: nn.Module, example: Tensor) -> nn.Module:
    """Packs every convolution of a channels_last network in eval mode, in place, and returns the network.

    Args:
        module: without gradients, in float32 or bfloat16.
        example: (N, C, H, W) in channels_last, of the dtype of the weights.
    """
    shapes: dict[nn.Module, Sequence[int]] = {}
    hooks = [
        conv.register_forward_hook(lambda conv, inputs, _: shapes.update({conv: inputs[0].shape}))
        for conv in module.modules()
        if _packable(conv)
    ]
    try:
        module(example)
    finally:
        for hook in hooks:
            hook.remove()
    _replace(module, shapes)
    return module


def _replace(module: nn.Module, shapes: dict[nn.Module, Sequence[int]]) -> None:
    children = list(module.named_children())
    in_turn = isinstance(module, nn.Sequential)
    followers = [*children[1:], ("", nn.Identity())][: len(children)]
    for (name, child), (after, follower) in zip(children, followers, strict=True):
        if child not in shapes:  # not a convolution, or one that did not run
            _replace(child, shapes)
            continue
        assert isinstance(child, nn.Conv2d)
        fused = in_turn and fusible(follower)
        setattr(module, name, PackedConv2d(child, shapes[child], follower if fused else None))
        if fused:
            setattr(module, after, nn.Identity())
