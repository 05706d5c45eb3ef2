"""The recursion of RecConv as a function of its weights: the definition that every faster form must equal."""

from collections.abc import Sequence
from typing import Optional

import torch.nn.functional as F
from torch import Tensor


def recconv2d(
    x: Tensor,
    down: Tensor,
    convs: list[Tensor],
    down_bias: Optional[Tensor] = None,
    conv_biases: Optional[list[Tensor]] = None,
    mode: str = "bilinear",
) -> Tensor:
    """Recursive depthwise convolution (arXiv 2412.19628, section 3).

    With f_0 = x and f_i = down(f_{i-1}), the coarsest level is convolved, resized to the level above and
    added to it, until level 0, whose convolution gives the result.

    Args:
        x: (N, C, H, W).
        down: (C, 1, k, k), the stride-2 depthwise weight that all levels share; k odd.
        convs: level + 1 depthwise weights (C, 1, k, k), coarsest level first.
        down_bias: (C,) or None.
        conv_biases: level + 1 tensors (C,), or None.
        mode: "bilinear" (align_corners False) or "nearest".

    Returns:
        (N, C, H, W), in the dtype of x.
    """
    biases = conv_biases or [None] * len(convs)  # type: ignore[list-item]
    _, sums = levels_and_sums(x, down, convs, down_bias, biases, mode)
    return depthwise(sums[0], convs[-1], biases[-1], 1)


def levels_and_sums(
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Optional[Tensor]],
    mode: str,
) -> tuple[list[Tensor], list[Tensor]]:
    """The levels f_0..f_L of the recursion, and for each the sum that its convolution reads, finest first."""
    levels = [x]
    for _ in convs[1:]:
        levels.append(depthwise(levels[-1], down, down_bias, 2))
    sums = [levels[-1]]
    for above, weight, bias in zip(levels[-2::-1], convs, conv_biases, strict=False):
        y = depthwise(sums[0], weight, bias, 1)
        sums.insert(0, above + F.interpolate(y, size=above.shape[-2:], mode=mode))
    return levels, sums


def depthwise(x: Tensor, weight: Tensor, bias: Optional[Tensor], stride: int) -> Tensor:
    """A depthwise convolution of (N, C, H, W) with (C, 1, k, k) that keeps the size, rounded up after a stride."""
    return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, 1, x.shape[1])
