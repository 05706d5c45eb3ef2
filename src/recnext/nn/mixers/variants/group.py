"""RecConv variant A: every level has half the channels, by group convolutions down and up."""

from itertools import pairwise
from typing import Any, List  # noqa: UP035 (TorchScript reads List)

import torch
from torch import Tensor, nn

from recnext.errors import RecNextError

from ..recursion import PerLevel, Recursion, check_map, depthwise


class GroupRecConv2d(Recursion):
    """Recursive convolution on both the spatial and the channel axis (variant A of arXiv 2412.19628).

    Each way down halves the maps and the channels by a group convolution of two channels to one, each way up
    is the transposed opposite; nothing is shared between levels.

    Children in order: `downs` (finest first), `convs` and `ups` (coarsest first).

    Args:
        in_channels: channels c, of the input and the output, a multiple of 2**level.
        kernel_size: odd kernel k; `ups` have k + 1, stride 2.
        bias: whether the convolutions have biases.
        level: number of halvings.

    Raises:
        RecNextError: the kernel is even, the level negative, or the channels not a multiple of 2**level; on
            call, if the height or width of the (N, C, H, W) input is not a multiple of 2**level.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(kernel_size=kernel_size, level=level)
        step = 2**level
        if in_channels % step:
            below = in_channels // step * step
            near = f"{below} or {below + step}" if below else f"{step}"
            raise RecNextError(
                f"GroupRecConv2d with {level} levels takes a multiple of {step} channels, such as {near}, "
                f"not {in_channels} (recnext_m0 and recnext_m2 do not fit; rec_7x7_split takes them)"
            )
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        between: dict[str, Any] = {"stride": 2, "padding": kernel_size // 2, **options}
        widths = [in_channels >> i for i in range(level + 1)]  # of the levels, finest first
        steps = list(pairwise(widths))
        self.downs = PerLevel(nn.Conv2d(wide, slim, kernel_size, groups=slim, **between) for wide, slim in steps)
        self.convs = PerLevel(depthwise(width, kernel_size, **options) for width in reversed(widths))
        self.ups = PerLevel(
            nn.ConvTranspose2d(slim, wide, kernel_size + 1, groups=slim, **between) for wide, slim in reversed(steps)
        )

    def lower(self, x: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        waiting.append(x)
        return self.downs(x, i)

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        return waiting.pop() + self.ups(y, i)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        if not torch.jit.is_scripting():
            check_map("GroupRecConv2d", x, level=self.level, multiple=True)
        return self.recurse(x)
