"""RecConv variant B: every level passes half the channels through and works on the other half."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError

from ._checks import check_choice, check_map, check_options


class SplitRecConv2d(nn.Module):
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
        super().__init__()
        check_choice(
            "SplitRecConv2d",
            option="upsample",
            value=upsample,
            choices=("conv_transpose", "bilinear", "nearest"),
        )
        check_options("SplitRecConv2d", kernel_size=kernel_size, level=level)
        if in_channels < 2**level:
            raise RecNextError(
                f"SplitRecConv2d with {level} levels takes {2**level} channels or more, not {in_channels}"
            )
        self.level = level
        self.upsample = upsample
        options = {
            "padding": kernel_size // 2,
            "bias": bias,
            "device": device,
            "dtype": dtype,
        }
        widths = [in_channels >> i for i in range(level + 1)]  # of the levels, finest first
        self.downs = nn.ModuleList(
            [nn.Conv2d(width, width, kernel_size, stride=2, groups=width, **options) for width in widths[1:]]
        )
        self.convs = nn.ModuleList(
            [nn.Conv2d(width, width, kernel_size, groups=width, **options) for width in reversed(widths)]
        )
        if upsample == "conv_transpose":
            self.ups = nn.ModuleList(
                [
                    nn.ConvTranspose2d(width, width, kernel_size + 1, stride=2, groups=width, **options)
                    for width in reversed(widths[1:])
                ]
            )
        else:
            self.ups = nn.ModuleList([nn.Identity() for _ in widths[1:]])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        if self.upsample == "conv_transpose" and not torch.jit.is_scripting():
            check_map("SplitRecConv2d", x, level=self.level, multiple=True)
        waiting: list[Tensor] = []
        for down in self.downs:
            half, x = x.chunk(2, dim=1)
            waiting.append(half)
            x = down(x)
        for conv, up in zip(self.convs, self.ups):  # noqa: B905 (TorchScript has no strict=)
            half = waiting.pop()
            x = up(conv(x))
            if self.upsample != "conv_transpose":
                x = F.interpolate(x, size=half.shape[-2:], mode=self.upsample)
            x = torch.cat([half, x], dim=1)
        return self.convs[-1](x)
