"""RecConv variant B: every level passes half the channels through and works on the other half."""

from typing import Any, List  # noqa: UP035 (TorchScript reads List)

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError

from ..recursion import PerLevel, Recursion, check_choice, check_map, depthwise


class SplitRecConv2d(Recursion):
    """Recursive convolution with channels split on the way down and joined on the way up.

    Variant B of arXiv 2412.19628: the first half of the channels (the larger, if they are odd) waits, the
    second goes down by a stride-2 depthwise convolution; on the way up it is convolved, doubled in size and
    concatenated behind the half that waited.

    Children in order: `downs` (finest first), `convs` (coarsest first) and, unless it interpolates, `ups`
    (coarsest first).

    Args:
        in_channels: channels c, of the input and the output, at least 2**level.
        kernel_size: odd kernel k; `ups` have k + 1, stride 2.
        bias: whether the convolutions have biases.
        level: number of halvings.
        upsample: "conv_transpose", or "bilinear" or "nearest" to interpolate instead.

    Raises:
        RecNextError: the kernel is even, the level negative, the upsampling unknown or the channels below
            2**level; on call with "conv_transpose", if the height or width of the (N, C, H, W) input is not a
            multiple of 2**level.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        *,
        upsample: str = "conv_transpose",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(kernel_size=kernel_size, level=level)
        choices = ("conv_transpose", "bilinear", "nearest")
        check_choice("SplitRecConv2d", option="upsample", value=upsample, choices=choices)
        if in_channels < 2**level:
            raise RecNextError(
                f"SplitRecConv2d with {level} levels takes {2**level} channels or more, not {in_channels}"
            )
        self.upsample = upsample
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        widths = [in_channels >> i for i in range(level + 1)]  # of the levels, finest first
        self.downs = PerLevel(depthwise(width, kernel_size, stride=2, **options) for width in widths[1:])
        self.convs = PerLevel(depthwise(width, kernel_size, **options) for width in reversed(widths))
        self.ups = PerLevel(
            nn.ConvTranspose2d(width, width, kernel_size + 1, 2, kernel_size // 2, groups=width, **options)
            if upsample == "conv_transpose"
            else nn.Identity()
            for width in reversed(widths[1:])
        )

    def lower(self, x: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        half, x = x.chunk(2, dim=1)
        waiting.append(half)
        return self.downs(x, i)

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        half, y = waiting.pop(), self.ups(y, i)
        if self.upsample != "conv_transpose":
            y = F.interpolate(y, size=half.shape[2:], mode=self.upsample)
        return torch.cat([half, y], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        if self.upsample == "conv_transpose" and not torch.jit.is_scripting():
            check_map("SplitRecConv2d", x, level=self.level, multiple=True)
        return self.recurse(x)
