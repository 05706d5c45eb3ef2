"""The operations of Core ML's intermediate language that our networks convert to, computed with PyTorch.

Each follows the description of the operation in coremltools' reference, in float32, and has its names of operands.
"""

import operator
from collections.abc import Callable, Sequence
from math import floor
from typing import Any, Optional, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Result = Union[Tensor, Sequence[Tensor]]
Ints = Sequence[int]


def operand(value: Any) -> Any:
    """A constant of the program as operations take it: float32 tensors, lists of integers, numbers, flags and words."""
    if isinstance(value, (list, tuple)):
        return [operand(part) for part in value]
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    if value.dtype.kind == "f" and value.ndim:
        return torch.from_numpy(np.ascontiguousarray(value, np.float32))
    return value.tolist()


def evaluate(name: str, /, **operands: Any) -> list[Tensor]:
    """The results of an operation.

    Raises:
        KeyError: there is no such operation here.
        ValueError, TypeError, RuntimeError, IndexError: it does not take these operands.
    """
    given = {key: operand(value) for key, value in operands.items() if value is not None}
    result = OPERATIONS[name](**given)
    return [result] if isinstance(result, Tensor) else list(result)


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    *,
    pad_type: str = "valid",
    pad: Ints = (),
    strides: Any = 1,
    dilations: Any = 1,
    groups: int = 1,
) -> Tensor:
    spatial = x.ndim - 2
    pads = _padding(pad_type, pad, spatial)
    reverse = [side for axis in reversed(range(spatial)) for side in pads[2 * axis : 2 * axis + 2]]
    compute: Any = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    result: Tensor = compute(F.pad(x, reverse), weight, bias, strides, 0, dilations, groups)
    return result


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    *,
    pad_type: str = "valid",
    pad: Ints = (),
    output_shape: Ints = (),
    strides: Any = 1,
    dilations: Any = 1,
    groups: int = 1,
) -> Tensor:
    spatial = x.ndim - 2
    pads = _padding(pad_type, pad, spatial)
    compute: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
    y: Tensor = compute(x, weight, bias, strides, 0, 0, groups, dilations)
    for axis, side in enumerate(y.shape[2:]):
        begin, end = pads[2 * axis : 2 * axis + 2]
        y = y.narrow(2 + axis, begin, output_shape[2 + axis] if output_shape else side - begin - end)
    return y


def _padding(pad_type: str, pad: Ints, spatial: int) -> Ints:
    """Before and after each spatial axis; of the kinds that depend on the size our networks have none."""
    if pad_type not in ("valid", "custom"):
        raise ValueError(f"pad_type {pad_type!r} is not valid or custom")
    return pad if pad_type == "custom" and pad else [0] * 2 * spatial


def _layer_norm(
    x: Tensor, *, axes: Ints, gamma: Optional[Tensor] = None, beta: Optional[Tensor] = None, epsilon: float = 1e-5
) -> Tensor:
    mean = x.mean(list(axes), keepdim=True)
    y = (x - mean) * torch.rsqrt((x - mean).square().mean(list(axes), keepdim=True) + epsilon)
    shape = [side if axis in {a % x.ndim for a in axes} else 1 for axis, side in enumerate(x.shape)]
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def _softplus_parametric(x: Tensor, *, alpha: Tensor, beta: Tensor) -> Tensor:
    """With a factor inside and one outside a channel."""
    shape = [1, -1, *[1] * (x.ndim - 2)]
    return alpha.reshape(shape) * F.softplus(beta.reshape(shape) * x)


def _concat(values: Sequence[Tensor], *, axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        raise ValueError("interleaved parts are not what our networks have")
    return torch.cat(list(values), axis)


def _expand_dims(x: Tensor, *, axes: Ints) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, *, axes: Optional[Ints] = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _slice_by_index(
    x: Tensor,
    *,
    begin: Ints,
    end: Ints,
    stride: Optional[Ints] = None,
    begin_mask: Optional[Ints] = None,
    end_mask: Optional[Ints] = None,
    squeeze_mask: Optional[Ints] = None,
) -> Tensor:
    none = [False] * x.ndim
    from_start, to_end, squeezed = begin_mask or none, end_mask or none, squeeze_mask or none
    index: list[Union[int, slice]] = []
    for axis, step in enumerate(stride or [1] * x.ndim):
        first = None if from_start[axis] else begin[axis]
        index.append(begin[axis] if squeezed[axis] else slice(first, None if to_end[axis] else end[axis], step))
    return x[tuple(index)]


def _upsample_bilinear(
    x: Tensor, *, scale_factor_height: float = 1, scale_factor_width: float = 1, align_corners: bool = True
) -> Tensor:
    """The grid of the reference: its spacing comes from the two sizes, not from the scale."""
    size = _scaled(x, scale_factor_height, scale_factor_width)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def _upsample_nearest(x: Tensor, *, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """By integer factors only: which neighbour others take is not described."""
    size = _scaled(x, scale_factor_height, scale_factor_width)
    if size[0] % x.shape[-2] or size[1] % x.shape[-1]:
        raise ValueError(f"upsample_nearest_neighbor from {tuple(x.shape[-2:])} to {size} is no integer factor")
    return F.interpolate(x, size=size, mode="nearest")


def _scaled(x: Tensor, height: float, width: float) -> tuple[int, int]:
    """The floor of size times scale, as the reference says."""
    return floor(x.shape[-2] * height), floor(x.shape[-1] * width)


def _reduction(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A reduction over axes, all by default."""
    return lambda x, axes=None, keep_dims=False: compute(x, axes or list(range(x.ndim)), keepdim=keep_dims)


def _unary(compute: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A function of each element."""
    return lambda x: compute(x)


def _binary(compute: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    """A function of each pair of elements, with broadcasting."""
    return lambda x, y: compute(x, y)


_GELU = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}

OPERATIONS: dict[str, Callable[..., Result]] = {
    "add": _binary(operator.add),
    "cast": lambda x, dtype: x,
    "concat": _concat,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "expand_dims": _expand_dims,
    "gelu": lambda x, mode="EXACT": F.gelu(x, approximate=_GELU[mode]),
    "layer_norm": _layer_norm,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": lambda x, y, transpose_x=False, transpose_y=False: (
        (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)
    ),
    "mul": _binary(operator.mul),
    "real_div": _binary(operator.truediv),
    "reduce_mean": _reduction(torch.mean),
    "reduce_sum": _reduction(torch.sum),
    "relu": _unary(torch.relu),
    "reshape": lambda x, shape: x.reshape([side or x.shape[axis] for axis, side in enumerate(shape)]),
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(F.silu),
    "slice_by_index": _slice_by_index,
    "softmax": lambda x, axis=-1: x.softmax(axis),
    "softplus": _unary(F.softplus),
    "softplus_parametric": _softplus_parametric,
    "split": lambda x, axis, num_splits=1, split_sizes=None: x.split(split_sizes or x.shape[axis] // num_splits, axis),
    "squeeze": _squeeze,
    "stack": lambda values, axis: torch.stack(values, axis),
    "sub": _binary(operator.sub),
    "tanh": _unary(torch.tanh),
    "transpose": lambda x, perm: x.permute(perm),
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
}
