"""Convolutions in parts: some outputs of one, and several outputs a channel as depthwise convolutions."""

from typing import Optional

import torch
from torch import Tensor, nn


@torch.no_grad()
def outputs_of(conv: nn.Conv2d, outputs: Tensor) -> nn.Conv2d:
    """The convolution that gives some output channels of another, in their order.

    Args:
        conv: with one group, or with one input channel a group; then the input has the channels that are read.
        outputs: indices of the channels, int64.
    """
    depthwise, count = conv.groups > 1, len(outputs)
    part = nn.Conv2d(
        count if depthwise else conv.in_channels,
        count,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=count if depthwise else 1,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    part.weight.copy_(conv.weight[outputs])
    if part.bias is not None and conv.bias is not None:
        part.bias.copy_(conv.bias[outputs])
    return part


class ExpandingDepthwise(nn.Module):
    """A convolution with one input and m output channels a group, as m depthwise convolutions.

    The downsampling convolutions of every series are such (m = 2). ONNX Runtime and OpenVINO have fast kernels
    for m = 1 only and run the others as general grouped convolutions, many times slower.

    Args:
        conv: with groups equal to its input channels; its weights are copied.
        order: where given, the input has its channels in this order, and the output is the parts one behind the
            other, its channels in the order `self.outputs`. Nothing is interleaved then, and nothing need be.

    Shape:
        (N, C, H, W) to (N, m C, H', W'), the channels in the order of `conv` or in `self.outputs`.
    """

    def __init__(self, conv: nn.Conv2d, order: Optional[Tensor] = None) -> None:
        super().__init__()
        times = conv.out_channels // conv.in_channels
        inputs = torch.arange(conv.in_channels) if order is None else order
        self.outputs = torch.cat([inputs * times + first for first in range(times)])
        self.interleave = order is None
        self.convs = nn.ModuleList([outputs_of(conv, inputs * times + first) for first in range(times)])

    def forward(self, x: Tensor) -> Tensor:
        if not self.interleave:
            return torch.cat([conv(x) for conv in self.convs], dim=1)
        return torch.stack([conv(x) for conv in self.convs], dim=2).flatten(1, 2)
