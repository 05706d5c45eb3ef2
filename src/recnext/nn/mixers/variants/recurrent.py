"""RecConv whose levels are aggregated by a recurrence, as in a state space model."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_choice, check_options


class RecurrentRecConv2d(nn.Module):
    """Recursive depthwise convolution with recurrent aggregation (arXiv 2412.19628, ablations).

    With f_0 = x and f_i = n(f_{i-1}), the state h starts at the coarsest level as b(f_level) and becomes
    a(h) + b(f_i) at each level above it, resized to the next level's size after each; the result is
    c(h) + d(x). All levels share the five convolutions.

    Parameters: 5 k² c without biases, 4 k² c at level 1, which has no `a`.

    Args:
        in_channels: channels, of the input and the output.
        kernel_size: odd kernel k.
        bias: whether the convolutions have biases.
        level: number of halvings, at least 1.
        mode: "bilinear" (align_corners False) or "nearest".

    Raises:
        RecNextError: the kernel is even, the level below 1 or the mode unknown.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 1,
        mode: str = "nearest",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("RecurrentRecConv2d", kernel_size=kernel_size, level=level, lowest_level=1)
        check_choice("RecurrentRecConv2d", option="mode", value=mode, choices=("bilinear", "nearest"))
        self.level = level
        self.mode = mode
        options = {
            "in_channels": in_channels,
            "out_channels": in_channels,
            "groups": in_channels,
            "kernel_size": kernel_size,
            "padding": kernel_size // 2,
            "bias": bias,
            "device": device,
            "dtype": dtype,
        }
        self.n = nn.Conv2d(stride=2, **options)
        self.a = nn.Conv2d(**options) if level > 1 else None
        self.b = nn.Conv2d(**options)
        self.c = nn.Conv2d(**options)
        self.d = nn.Conv2d(**options)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        features = [x]
        for _ in range(self.level):
            features.append(self.n(features[-1]))
        h = self.b(features.pop())
        if self.a is not None:
            for _ in range(self.level - 1):
                f = features.pop()
                h = self.a(F.interpolate(h, size=f.shape[-2:], mode=self.mode)) + self.b(f)
        return self.c(F.interpolate(h, size=x.shape[-2:], mode=self.mode)) + self.d(x)
