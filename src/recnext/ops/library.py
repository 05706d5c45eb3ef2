"""The Triton form as PyTorch operators, so that autograd, torch.compile, autocast and DDP see one node."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor


@torch.library.custom_op("recnext::recconv2d", mutates_args=())
def recconv2d_triton(
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
    dtype: torch.dtype,
) -> Tensor:
    """`recconv2d` by Triton kernels, float32 inside.

    Args:
        x: (N, C, H, W) of float32, float16 or bfloat16; copied unless it is channels_last.
        down: (C, 1, k, k), k 3, 5 or 7.
        convs: level + 1 weights (C, 1, k, k), coarsest level first, level at most 5.
        down_bias: (C,) or None.
        conv_biases: level + 1 tensors (C,), or none.
        mode: "bilinear" or "nearest".
        dtype: of the result.

    Returns:
        (N, C, H, W) in channels_last.
    """
    from . import launch  # imports triton, which CPU machines need not have

    with torch.cuda.device_of(x):
        return launch.forward(x, down, convs, down_bias, conv_biases, mode, dtype)


@torch.library.custom_op("recnext::recconv2d_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    from . import launch

    with torch.cuda.device_of(x):
        return launch.backward(grad, x, down, convs, down_bias, conv_biases, mode)


@recconv2d_triton.register_fake
def _(
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
    dtype: torch.dtype,
) -> Tensor:
    return torch.empty_like(x, dtype=dtype, memory_format=torch.channels_last)


@_backward_op.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    slots = len(convs) + 1
    weights = x.new_empty((slots, *down.shape[:1], *down.shape[2:]), dtype=torch.float32)
    biases = x.new_empty((slots, down.shape[0]), dtype=torch.float32)
    return torch.empty_like(x, memory_format=torch.channels_last), weights, biases


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, down, convs, down_bias, conv_biases, mode, _ = inputs
    ctx.mode, ctx.convs, ctx.down_bias = mode, len(convs), down_bias is not None
    ctx.save_for_backward(x, down, *convs, *conv_biases, *([] if down_bias is None else [down_bias]))


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, down, *rest = ctx.saved_tensors
    down_bias = rest.pop() if ctx.down_bias else None
    convs, conv_biases = rest[: ctx.convs], rest[ctx.convs :]
    into, weights, biases = _backward_op(grad, x, down, convs, down_bias, conv_biases, ctx.mode)
    of_weights = [w.unsqueeze(1).to(t.dtype) for w, t in zip(weights.unbind(), [down, *convs], strict=True)]
    of_biases = biases.unbind()
    return (
        into,
        of_weights[0],
        of_weights[1:],
        None if down_bias is None else of_biases[0].to(down_bias.dtype),
        [b.to(t.dtype) for b, t in zip(of_biases[1:], conv_biases, strict=False)],
        None,
        None,
    )


recconv2d_triton.register_autograd(_backward, setup_context=_setup_context)
