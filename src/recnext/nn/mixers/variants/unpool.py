"""RecConv that goes down by max pooling and back up to the places where the maxima were."""

from typing import Any, List  # noqa: UP035 (TorchScript reads List)

import torch
import torch.nn.functional as F
from torch import Tensor

from ..recursion import PerLevel, Recursion, check_map, depthwise


class UnpoolRecConv2d(Recursion):
    """Recursive depthwise convolution over a max-pooling pyramid (arXiv 2412.19628, ablations).

    f_0 = x and f_i is the 2x2 max pooling of f_{i-1}; each level is convolved, put back where its maxima were
    (zeros elsewhere) and added to the level above. There is no `down`.

    Parameters: (level + 1) k² c without biases; one child, `convs`, coarsest first.

    Args:
        in_channels: channels c, of the input and the output.
        kernel_size: odd kernel k.
        bias: whether the convolutions have biases.
        level: number of halvings.

    Raises:
        RecNextError: the kernel is even or the level negative; on call, if the height or width of the
            (N, C, H, W) input is below 2**level.
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
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.convs = PerLevel(depthwise(in_channels, kernel_size, **options) for _ in range(level + 1))

    def lower(self, x: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        pooled, places = F.max_pool2d_with_indices(x, [2, 2])  # places: flat indices into x
        waiting.extend([x, places])
        return pooled

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        places, above = waiting.pop(), waiting.pop()
        return above + F.max_unpool2d(y, places, [2, 2], output_size=above.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        if not torch.jit.is_scripting():
            check_map("UnpoolRecConv2d", x, level=self.level, multiple=False)
        return self.recurse(x)
