"""RecConv that goes down by max pooling and back up to the places where the maxima were."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_map, check_options


class UnpoolRecConv2d(nn.Module):
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
        super().__init__()
        check_options("UnpoolRecConv2d", kernel_size=kernel_size, level=level)
        self.level = level
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(
                    in_channels,
                    in_channels,
                    kernel_size,
                    padding=kernel_size // 2,
                    groups=in_channels,
                    bias=bias,
                    device=device,
                    dtype=dtype,
                )
                for _ in range(level + 1)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        if not torch.jit.is_scripting():
            check_map("UnpoolRecConv2d", x, level=self.level, multiple=False)
        features = [x]
        places: list[Tensor] = []  # of the maxima: flat indices into the map above
        for _ in range(self.level):
            pooled, indices = F.max_pool2d_with_indices(features[-1], [2, 2])
            features.append(pooled)
            places.append(indices)
        y = features.pop()
        for index, conv in enumerate(self.convs):
            y = conv(y)
            if index < self.level:
                above = features.pop()
                y = above + F.max_unpool2d(y, places.pop(), [2, 2], output_size=above.shape[-2:])
        return y
