"""RecConv whose levels are aggregated by a recurrence, as in a state space model."""

from typing import Any, List  # noqa: UP035 (TorchScript reads List)

import torch.nn.functional as F
from torch import Tensor

from ..recursion import Recursion, check_choice, depthwise


class RecurrentRecConv2d(Recursion):
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
        super().__init__(kernel_size=kernel_size, level=level, lowest_level=1)
        check_choice("RecurrentRecConv2d", option="mode", value=mode, choices=("bilinear", "nearest"))
        self.mode = mode
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.n = depthwise(in_channels, kernel_size, stride=2, **options)
        self.a = depthwise(in_channels, kernel_size, **options) if level > 1 else None
        self.b = depthwise(in_channels, kernel_size, **options)
        self.c = depthwise(in_channels, kernel_size, **options)
        self.d = depthwise(in_channels, kernel_size, **options)

    def lower(self, x: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        waiting.append(x)
        return self.n(x)

    def mix(self, y: Tensor, i: int) -> Tensor:
        return self.b(y) if i == 0 else y

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        f = waiting.pop()
        h = F.interpolate(y, size=f.shape[2:], mode=self.mode)
        if self.a is not None and i < self.level - 1:
            return self.a(h) + self.b(f)
        return self.c(h) + self.d(f)
