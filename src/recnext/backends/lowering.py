"""Exact rewriting of layers that the CPU runtimes compute slowly, before a network is exported."""

import torch
from torch import Tensor, nn

from .parted import keep_parted


class ExpandingDepthwise(nn.Module):
    """A convolution with one input and m output channels a group, as m depthwise convolutions.

    The downsampling convolutions of every series are such (m = 2). ONNX Runtime and OpenVINO have fast kernels
    for m = 1 only and run the others as general grouped convolutions, many times slower. A last convolution,
    depthwise 1x1 by one, changes nothing; with it ONNX Runtime takes the result into its blocked layout once, and
    the additions of the whole stage stay there.

    Args:
        conv: with groups equal to its input channels; its weights are copied.

    Shape:
        (N, C, H, W) to (N, m C, H', W'), the channels in the order of `conv`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        times = conv.out_channels // conv.in_channels
        self.convs = nn.ModuleList()
        for first in range(times):
            part = nn.Conv2d(
                conv.in_channels,
                conv.in_channels,
                conv.kernel_size,  # type: ignore[arg-type]
                stride=conv.stride,  # type: ignore[arg-type]
                padding=conv.padding,  # type: ignore[arg-type]
                dilation=conv.dilation,  # type: ignore[arg-type]
                groups=conv.in_channels,
                bias=conv.bias is not None,
                padding_mode=conv.padding_mode,
                device=conv.weight.device,
                dtype=conv.weight.dtype,
            )
            with torch.no_grad():
                part.weight.copy_(conv.weight[first::times])
                if part.bias is not None and conv.bias is not None:
                    part.bias.copy_(conv.bias[first::times])
            self.convs.append(part)
        self.identity = nn.Conv2d(
            conv.out_channels,
            conv.out_channels,
            1,
            groups=conv.out_channels,
            bias=False,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        nn.init.ones_(self.identity.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.identity(torch.stack([conv(x) for conv in self.convs], dim=2).flatten(1, 2))


def _expands(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and module.out_channels > module.groups


def lower(model: nn.Module) -> nn.Module:
    """Replaces what the runtimes are slow at, in place, and returns the model; outputs stay equal.

    Args:
        model: fused, in eval mode.
    """
    for name, child in list(model.named_children()):
        if _expands(child):
            assert isinstance(child, nn.Conv2d)
            setattr(model, name, ExpandingDepthwise(child))
        else:
            setattr(model, name, keep_parted(lower(child)))
    return model
