"""Which dtype the recursion computes in and returns, with and without autocast."""

from typing import Any, Optional

import torch
from torch import Tensor


def autocast_dtype(x: Tensor) -> Optional[torch.dtype]:
    """The dtype that autocast computes in on the device of x, or None outside autocast."""
    return _autocast_dtype(x.device.type)


@torch.compiler.assume_constant_result  # true of a trace: torch.compile guards on the state of autocast
def _autocast_dtype(device: str) -> Optional[torch.dtype]:
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return None


def dtypes(x: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of the levels and of the result.

    The amplitude of the levels grows through 2 level + 1 convolutions without a norm between them: in float16 it
    overflows at four times the default weights. So float16 levels are float32, and under autocast to float16,
    where the norm that follows takes any dtype, so is the result. bfloat16 has the range.
    """
    autocast = None if x.dtype == torch.float64 else autocast_dtype(x)
    dtype = x.dtype if autocast is None else autocast
    if dtype != torch.float16:
        return dtype, dtype
    return torch.float32, torch.float16 if autocast is None else torch.float32


def disabled(device: torch.device) -> Any:
    """Autocast off, for code that has chosen its dtypes."""
    return torch.autocast(device.type, enabled=False)
