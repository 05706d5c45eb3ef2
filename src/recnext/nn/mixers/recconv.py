"""RecConv2d: a receptive field of k·2^level from small depthwise convolutions, at nearly constant cost."""

from typing import Any

import torch
from torch import Tensor, nn

from recnext.nn.ops import choose

from .recursion import RecConvNd

MODES = ("bilinear", "nearest")


class RecConv2d(RecConvNd):
    """Recursive depthwise convolution (arXiv 2412.19628, section 3).

    One stride-2 convolution, shared by all levels, makes a pyramid of `level` maps. From the coarsest up, each
    map is convolved, resized to the one above and added to it; a last convolution gives the result. Parameters
    are (level + 2) k² C without bias, and the cost is at most 5/3 of one k×k depthwise convolution.

    float16 keeps its range: the levels are computed in float32, and under autocast so is the output, for
    the norm that follows it.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd.
        bias: adds a bias to every convolution.
        level: number of times the map is halved; 0 is a plain depthwise convolution.
        mode: how a map is resized, "bilinear" (align_corners False) or "nearest".
        recompute: saves only the input for the backward pass and computes the levels again there: less
            memory for a little time, with the same gradients.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, H, W) to (N, C, H, W), any H and W.

    Raises:
        RecNextError: an even kernel, a negative level or an unknown mode.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        mode: str = "bilinear",
        *,
        recompute: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        super().__init__(nn.Conv2d, MODES, in_channels, kernel_size, bias=bias, level=level, mode=mode, dd=dd)
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            form = choose(x, self.down, self.convs, recompute=self.recompute)
            if form is not None:
                biases = None if self.down.bias is None else [conv.bias for conv in self.convs]
                return form(
                    x, self.down.weight, [conv.weight for conv in self.convs], self.down.bias, biases, self.mode
                )
        return self.recurse(x)
