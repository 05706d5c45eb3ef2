"""The Triton form as PyTorch operators, so that autograd, torch.compile, autocast and DDP see one node."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _on_device(x: Tensor) -> Any:
    if not x.is_cuda or x.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device_of(x)


def _forward(x: Tensor, *args: Any) -> Tensor:
    from . import launch  # imports triton, which CPU machines need not have

    with _on_device(x):
        return launch.forward(x, *args)


def _gradients(grad: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    from . import launch

    with _on_device(x):
        return launch.backward(grad, x, *args)


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
    return _forward(x, down, convs, down_bias, conv_biases, mode, dtype)


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
    return _gradients(grad, x, down, convs, down_bias, conv_biases, mode)


@recconv2d_triton.register_fake
def _(x: Tensor, *operands: Any) -> Tensor:
    return torch.empty_like(x, dtype=operands[-1], memory_format=torch.channels_last)


@_backward_op.register_fake
def _(grad: Tensor, x: Tensor, down: Tensor, convs: Sequence[Tensor], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    slots = len(convs) + 1
    weights = x.new_empty((slots, *down.shape[:1], *down.shape[2:]), dtype=torch.float32)
    biases = x.new_empty((slots, down.shape[0]), dtype=torch.float32)
    return torch.empty_like(x, memory_format=torch.channels_last), weights, biases


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, down, convs, down_bias, conv_biases, mode, _ = inputs
    ctx.mode, ctx.convs, ctx.down_bias = mode, len(convs), down_bias is not None
    ctx.save_for_backward(x, down, *convs, *conv_biases, *([] if down_bias is None else [down_bias]))


def _split(
    weights: Tensor,
    biases: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor], Optional[Tensor], list[Tensor]]:
    """Gradients of each weight and bias, in its dtype, from the stacked ones."""
    of_weights = [w.unsqueeze(1).to(t.dtype) for w, t in zip(weights.unbind(), [down, *convs], strict=True)]
    if down_bias is None and not conv_biases:
        return of_weights[0], of_weights[1:], None, []
    of_down, *of_convs = biases.unbind()
    return (
        of_weights[0],
        of_weights[1:],
        None if down_bias is None else of_down.to(down_bias.dtype),
        [b.to(t.dtype) for b, t in zip(of_convs, conv_biases, strict=False)],
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, down, *rest = ctx.saved_tensors
    down_bias = rest.pop() if ctx.down_bias else None
    convs, conv_biases = rest[: ctx.convs], rest[ctx.convs :]
    into, weights, biases = _backward_op(grad, x, down, convs, down_bias, conv_biases, ctx.mode)
    return into, *_split(weights, biases, down, convs, down_bias, conv_biases), None, None


recconv2d_triton.register_autograd(_backward, setup_context=_setup_context)


class _Eager(torch.autograd.Function):
    """The same node without the dispatcher, whose share of the host's time is large for small maps."""

    @staticmethod
    def forward(
        ctx: Any, mode: str, dtype: torch.dtype, counts: tuple[int, bool, int], x: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.mode, ctx.counts = mode, counts
        ctx.save_for_backward(x, *parameters)
        return _forward(x, *_unflatten(parameters, counts), mode, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, *parameters = ctx.saved_tensors
        operands = _unflatten(tuple(parameters), ctx.counts)
        into, weights, biases = _gradients(grad, x, *operands, ctx.mode)
        of_down, of_convs, of_down_bias, of_biases = _split(weights, biases, *operands)
        last = [] if of_down_bias is None else [of_down_bias]
        return None, None, None, into, of_down, *of_convs, *of_biases, *last


def _unflatten(
    parameters: tuple[Tensor, ...], counts: tuple[int, bool, int]
) -> tuple[Tensor, Sequence[Tensor], Optional[Tensor], Sequence[Tensor]]:
    convs, has_down_bias, biases = counts
    down_bias = parameters[-1] if has_down_bias else None
    return parameters[0], parameters[1 : 1 + convs], down_bias, parameters[1 + convs : 1 + convs + biases]


def recconv2d_eager(
    x: Tensor,
    down: Tensor,
    convs: Sequence[Tensor],
    down_bias: Optional[Tensor],
    conv_biases: Sequence[Tensor],
    mode: str,
    dtype: torch.dtype,
) -> Tensor:
    """`recconv2d_triton` for eager code: equal results and gradients, less time on the host."""
    if not torch.is_grad_enabled():
        return _forward(x, down, convs, down_bias, conv_biases, mode, dtype)
    counts = (len(convs), down_bias is not None, len(conv_biases))
    last = [] if down_bias is None else [down_bias]
    return _Eager.apply(mode, dtype, counts, x, down, *convs, *conv_biases, *last)
