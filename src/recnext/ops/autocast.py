"""Which dtype the recursion computes in and returns, with and without autocast."""

from typing import Any

import torch
from torch import Tensor


def plan(x: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of the levels and of the result.

    The amplitude of the levels grows through 2 level + 1 convolutions without a norm between them: in float16 it
    overflows at four times the default weights. So float16 levels are float32, and under autocast to float16,
    where the norm that follows takes any dtype, so is the result. bfloat16 has the range.
    """
    autocast = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
    if dtype != torch.float16:
        return dtype, dtype
    return torch.float32, torch.float32 if autocast else torch.float16


def disabled(device: torch.device) -> Any:
    """Autocast off, for code that has chosen its dtypes."""
    return torch.autocast(device.type, enabled=False)
