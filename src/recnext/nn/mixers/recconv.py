"""RecConv2d: a receptive field of k·2^level from small depthwise convolutions, at nearly constant cost."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.ops.dispatch import choose

MODES = ("bilinear", "nearest")


class RecConv2d(nn.Module):
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
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise RecNextError(f"RecConv2d: kernel_size={kernel_size} must be odd and positive, such as 5")
        if level < 0:
            raise RecNextError(f"RecConv2d: level={level} must be 0 or more")
        if mode not in MODES:
            raise RecNextError(f"RecConv2d: mode={mode!r} must be one of {', '.join(MODES)}")
        self.level = level
        self.mode = mode
        self.recompute = recompute
        self.checkpointed = False  # set while the block is recomputed anyway

        def depthwise(stride: int) -> nn.Conv2d:
            return nn.Conv2d(
                in_channels,
                in_channels,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                groups=in_channels,
                bias=bias,
                device=device,
                dtype=dtype,
            )

        self.down = depthwise(2)
        self.convs = nn.ModuleList([depthwise(1) for _ in range(level + 1)])  # coarsest level first

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            recompute = self.recompute and not self.checkpointed
            form = choose(x, self.down.weight, levels=self.level, recompute=recompute)
            if form is not None:
                weights = [conv.weight for conv in self.convs]
                biases = None if self.down.bias is None else [conv.bias for conv in self.convs]
                return form(x, self.down.weight, weights, self.down.bias, biases, self.mode)
        features = [x]
        for _ in range(self.level):
            features.append(self.down(features[-1]))
        y = features.pop()
        for i, conv in enumerate(self.convs):
            y = conv(y)
            if i < self.level:
                above = features.pop()
                y = above + F.interpolate(y, size=above.shape[-2:], mode=self.mode)
        return y

    def extra_repr(self) -> str:
        return f"level={self.level}, mode={self.mode}"
