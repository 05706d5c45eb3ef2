"""Chooses how the recursion is computed; the plain form, in the module itself, is what is left."""

from collections.abc import Callable
from typing import Optional

import torch
from torch import Tensor

from .autocast import autocast_dtype, disabled, plan
from .recconv import recconv2d
from .recompute import recconv2d_recompute

Form = Callable[..., Tensor]


def choose(x: Tensor, down: Tensor, *, recompute: bool) -> Optional[Form]:
    """The form to compute RecConv in, with the arguments of `recconv2d`, or None for the plain form.

    Args:
        x: (N, C, H, W), the input.
        down: (C, 1, k, k), the shared stride-2 weight.
        recompute: save only the input for the backward pass.
    """
    if isinstance(x, torch.fx.Proxy):
        return None
    if recompute and torch.is_grad_enabled():
        return recconv2d_recompute
    low = autocast_dtype(x) or x.dtype
    return recconv2d_float32 if low == torch.float16 and x.dtype != torch.float64 else None


def recconv2d_float32(
    x: Tensor,
    down: Tensor,
    convs: list[Tensor],
    down_bias: Optional[Tensor] = None,
    conv_biases: Optional[list[Tensor]] = None,
    mode: str = "bilinear",
) -> Tensor:
    """`recconv2d` of float16 in float32, so that the levels cannot overflow; float32 out under autocast."""
    _, out = plan(x)
    with disabled(x.device):
        y = recconv2d(
            x.float(),
            down.float(),
            [w.float() for w in convs],
            None if down_bias is None else down_bias.float(),
            None if conv_biases is None else [b.float() for b in conv_biases],
            mode,
        )
    return y.to(out)
