"""The recursion with an autograd path that saves its input and weights only, on any device.

Autograd keeps every level and every sum of the plain form, about 2.5 times the input. RecConv is cheap next to
the channel mixers, so the levels are made again in the backward pass and freed as it walks down.
"""

from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .autocast import disabled, dtypes
from .recconv import depthwise, levels_and_sums


class _Setting(NamedTuple):
    """What a call needs besides tensors: hashable, so that torch.compile can treat it as a constant."""

    mode: str
    levels: int
    down_bias: bool
    conv_biases: bool
    compute: torch.dtype
    out: torch.dtype


class _Weights(NamedTuple):
    down: Tensor
    convs: list[Tensor]
    down_bias: Optional[Tensor]
    conv_biases: list[Optional[Tensor]]

    @staticmethod
    def unpack(parameters: tuple[Tensor, ...], setting: _Setting) -> "_Weights":
        cast = [p.to(setting.compute) for p in parameters]
        count = setting.levels + 1
        down, convs, rest = cast[0], cast[1 : 1 + count], cast[1 + count :]
        down_bias = rest.pop(0) if setting.down_bias else None
        return _Weights(down, convs, down_bias, list(rest) if setting.conv_biases else [None] * count)


def recconv2d_recompute(
    x: Tensor,
    down: Tensor,
    convs: list[Tensor],
    down_bias: Optional[Tensor] = None,
    conv_biases: Optional[list[Tensor]] = None,
    mode: str = "bilinear",
) -> Tensor:
    """`recconv2d` that keeps only `x` and the weights for the backward pass; same arguments and results.

    Gradients are exact, not approximate. A second backward pass through them raises a RuntimeError.
    float16 inputs are computed in float32, so that the levels cannot overflow.

    Args:
        x: (N, C, H, W); channels_last is kept and is the fast layout.
        down: (C, 1, k, k), the stride-2 depthwise weight that all levels share; k odd.
        convs: level + 1 depthwise weights (C, 1, k, k), coarsest level first.
        down_bias: (C,) or None.
        conv_biases: level + 1 tensors (C,), or None.
        mode: "bilinear" (align_corners False) or "nearest".

    Returns:
        (N, C, H, W), in the dtype of x; under autocast in autocast's, but float32 for float16.
    """
    compute, out = dtypes(x)
    setting = _Setting(mode, len(convs) - 1, down_bias is not None, conv_biases is not None, compute, out)
    biases = ([] if down_bias is None else [down_bias]) + list(conv_biases or [])
    return _Recompute.apply(setting, x, down, *convs, *biases)


class _Recompute(torch.autograd.Function):
    @staticmethod
    def forward(setting: _Setting, x: Tensor, *parameters: Tensor) -> Tensor:
        with disabled(x.device):
            weights = _Weights.unpack(parameters, setting)
            y = levels_and_sums(x.to(setting.compute), *weights, setting.mode)[1][0]
            return depthwise(y, weights.convs[-1], weights.conv_biases[-1], 1).to(setting.out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.setting = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, *parameters = ctx.saved_tensors
        with disabled(x.device):
            grads = _gradients(ctx.setting, x, tuple(parameters), grad, ctx.needs_input_grad[1])
        kept = [
            g.to(t.dtype) if needed and g is not None else None
            for g, t, needed in zip(grads, (x, *parameters), ctx.needs_input_grad[1:], strict=True)
        ]
        return (None, *kept)


def _conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, *, bias: bool, stride: int, input_grad: bool = True
) -> tuple[Optional[Tensor], Tensor, Optional[Tensor]]:
    """Gradients of the input, the weight and the bias of `depthwise`."""
    channels, padding = weight.shape[0], weight.shape[-1] // 2
    return torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        [channels] if bias else None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        channels,
        [input_grad, True, bias],
    )


def _resize_backward(grad: Tensor, like: Tensor, mode: str) -> Tensor:
    """Gradient of `like` resized to the size of `grad`."""
    out, shape = list(grad.shape[-2:]), list(like.shape)
    if mode == "nearest":
        return torch.ops.aten.upsample_nearest2d_backward(grad, out, shape, None, None)
    return torch.ops.aten.upsample_bilinear2d_backward(grad, out, shape, False, None, None)


def _gradients(
    setting: _Setting, x: Tensor, parameters: tuple[Tensor, ...], grad: Tensor, x_needed: bool
) -> list[Optional[Tensor]]:
    """Gradients of x, down, convs, down_bias and conv_biases, in this order, the biases only if there are any."""
    weights = _Weights.unpack(parameters, setting)
    x = x.to(setting.compute)
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        grad = grad.contiguous(memory_format=torch.channels_last)
    grad = grad.to(setting.compute)
    levels, sums = levels_and_sums(x, *weights, setting.mode)
    conv_grads: list[Optional[Tensor]] = []  # finest first
    bias_grads: list[Optional[Tensor]] = []
    level_grads: list[Tensor] = []
    for i, weight in enumerate(reversed(weights.convs)):
        if i > 0:
            grad = _resize_backward(level_grads[-1], levels[i], setting.mode)
        # The gradient of the finest sum is unused at level 0 when x needs none.
        wanted = x_needed or setting.levels > 0
        through, by_weight, by_bias = _conv_backward(
            grad, sums[0], weight, bias=setting.conv_biases, stride=1, input_grad=wanted
        )
        sums.pop(0)
        conv_grads.append(by_weight)
        bias_grads.append(by_bias)
        if through is not None:
            level_grads.append(through)
    down_grad = torch.zeros_like(weights.down)
    down_bias_grad = None if weights.down_bias is None else torch.zeros_like(weights.down_bias)
    into = level_grads.pop() if level_grads else None
    for i in range(setting.levels, 0, -1):
        assert into is not None
        through, by_weight, by_bias = _conv_backward(
            into, levels[i - 1], weights.down, bias=setting.down_bias, stride=2, input_grad=x_needed or i > 1
        )
        down_grad += by_weight
        if down_bias_grad is not None:
            assert by_bias is not None
            down_bias_grad += by_bias
        if through is not None:
            into = level_grads.pop().add_(through)
    biases = ([down_bias_grad] if setting.down_bias else []) + (bias_grads[::-1] if setting.conv_biases else [])
    return [into if x_needed else None, down_grad, *conv_grads[::-1], *biases]
