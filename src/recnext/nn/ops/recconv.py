"""The recursion of RecConv in its plain form: the definition that every faster form must equal."""

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
    groups, padding = x.shape[1], down.shape[-1] // 2
    biases: list[Optional[Tensor]] = [None] * len(convs) if conv_biases is None else list(conv_biases)
    features = [x]
    for _ in convs[1:]:
        features.append(F.conv2d(features[-1], down, down_bias, 2, padding, 1, groups))
    y = features.pop()
    for weight, bias in zip(convs[:-1], biases[:-1], strict=True):
        above = features.pop()
        y = F.conv2d(y, weight, bias, 1, padding, 1, groups)
        y = above + F.interpolate(y, size=above.shape[-2:], mode=mode)
    return F.conv2d(y, convs[-1], biases[-1], 1, padding, 1, groups)
