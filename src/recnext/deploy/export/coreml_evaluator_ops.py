"""The operations of Core ML's intermediate language that our networks convert to, computed with PyTorch.

Each follows the description of the operation in coremltools' reference, in float32.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Result = Union[Tensor, Sequence[Tensor]]


class Operands:
    """The inputs of an operation by name: maps computed before, and constants of the program."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def tensor(self, name: str) -> Tensor:
        """A map, a weight or a number."""
        return as_tensor(self._values[name])

    def tensors(self, name: str) -> list[Tensor]:
        """A list of maps."""
        return [as_tensor(value) for value in self._values[name]]

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """Sizes, axes or flags."""
        if name not in self:
            return list(default)
        return [int(value) for value in np.asarray(self._values[name]).reshape(-1)]

    def number(self, name: str, default: float = 0.0) -> float:
        """A scalar."""
        return float(self._values[name]) if name in self else default

    def flag(self, name: str) -> bool:
        """A boolean, false where it is not given."""
        return name in self and bool(self._values[name])

    def text(self, name: str) -> str:
        """A mode."""
        return str(self._values[name])


def as_tensor(value: Any) -> Tensor:
    """A constant as a tensor; floating point becomes float32, as everything is computed in it."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _padding(of: Operands, spatial: int) -> list[int]:
    """Before and after each spatial axis.

    Raises:
        ValueError: padding that depends on the size, which our networks do not have.
    """
    kind = of.text("pad_type")
    if kind not in ("valid", "custom"):
        raise ValueError(f"pad_type {kind!r} is not valid or custom")
    return of.ints("pad") if kind == "custom" and "pad" in of else [0] * 2 * spatial


def _conv(of: Operands) -> Tensor:
    x, weight = of.tensor("x"), of.tensor("weight")
    spatial = x.ndim - 2
    pads = _padding(of, spatial)
    reverse = [side for axis in reversed(range(spatial)) for side in pads[2 * axis : 2 * axis + 2]]
    compute = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    return compute(
        F.pad(x, reverse),
        weight,
        of.tensor("bias") if "bias" in of else None,
        stride=of.ints("strides", [1] * spatial),
        dilation=of.ints("dilations", [1] * spatial),
        groups=int(of.number("groups", 1)),
    )


def _conv_transpose(of: Operands) -> Tensor:
    x, weight = of.tensor("x"), of.tensor("weight")
    spatial = x.ndim - 2
    compute = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
    y = compute(
        x,
        weight,
        of.tensor("bias") if "bias" in of else None,
        stride=of.ints("strides", [1] * spatial),
        dilation=of.ints("dilations", [1] * spatial),
        groups=int(of.number("groups", 1)),
    )
    pads = _padding(of, spatial)
    shape = of.ints("output_shape")[2:] or [
        side - pads[2 * axis] - pads[2 * axis + 1] for axis, side in enumerate(y.shape[2:])
    ]
    for axis, side in enumerate(shape):
        y = y.narrow(2 + axis, pads[2 * axis], side)
    return y


def _linear(of: Operands) -> Tensor:
    return F.linear(of.tensor("x"), of.tensor("weight"), of.tensor("bias") if "bias" in of else None)


def _matmul(of: Operands) -> Tensor:
    x, y = of.tensor("x"), of.tensor("y")
    return (x.mT if of.flag("transpose_x") else x) @ (y.mT if of.flag("transpose_y") else y)


def _gelu(of: Operands) -> Tensor:
    modes = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    return F.gelu(of.tensor("x"), approximate=modes[of.text("mode")])


def _layer_norm(of: Operands) -> Tensor:
    x, axes = of.tensor("x"), of.ints("axes")
    mean = x.mean(axes, keepdim=True)
    y = (x - mean) * torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + of.number("epsilon", 1e-5))
    shape = [side if axis in {a % x.ndim for a in axes} else 1 for axis, side in enumerate(x.shape)]
    y = y * of.tensor("gamma").reshape(shape) if "gamma" in of else y
    return y + of.tensor("beta").reshape(shape) if "beta" in of else y


def _softplus_parametric(of: Operands) -> Tensor:
    """With a factor inside and one outside a channel."""
    x = of.tensor("x")
    shape = [1, -1, *[1] * (x.ndim - 2)]
    inner, outer = of.tensor("beta").reshape(shape), of.tensor("alpha").reshape(shape)
    return outer * F.softplus(inner * x)


def _split(of: Operands) -> Sequence[Tensor]:
    x, axis = of.tensor("x"), int(of.number("axis"))
    sizes = of.ints("split_sizes") or [x.shape[axis] // int(of.number("num_splits"))] * int(of.number("num_splits"))
    return x.split(sizes, axis)


def _squeeze(of: Operands) -> Tensor:
    x = of.tensor("x")
    return x.squeeze(tuple(of.ints("axes", [axis for axis, side in enumerate(x.shape) if side == 1])))


def _expand_dims(of: Operands) -> Tensor:
    x, axes = of.tensor("x"), of.ints("axes")
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _reshape(of: Operands) -> Tensor:
    x, shape = of.tensor("x"), of.ints("shape")
    return x.reshape([x.shape[axis] if side == 0 else side for axis, side in enumerate(shape)])


def _slice_by_index(of: Operands) -> Tensor:
    x = of.tensor("x")
    from_start = of.ints("begin_mask", [0] * x.ndim)
    to_end = of.ints("end_mask", [0] * x.ndim)
    squeezed = of.ints("squeeze_mask", [0] * x.ndim)
    index: list[Union[int, slice]] = []
    for axis, (begin, end, stride) in enumerate(
        zip(of.ints("begin"), of.ints("end"), of.ints("stride", [1] * x.ndim), strict=True)
    ):
        if squeezed[axis]:
            index.append(begin)
        else:
            index.append(slice(None if from_start[axis] else begin, None if to_end[axis] else end, stride))
    return x[tuple(index)]


def _upsampled(of: Operands) -> list[int]:
    """Height and width: the floor of size times scale, as the reference says."""
    sides = of.tensor("x").shape[-2:]
    scales = of.number("scale_factor_height", 1), of.number("scale_factor_width", 1)
    return [math.floor(side * scale) for side, scale in zip(sides, scales, strict=True)]


def _upsample_bilinear(of: Operands) -> Tensor:
    """The grid of the reference: its spacing comes from the two sizes, not from the scale."""
    corners = "align_corners" not in of or of.flag("align_corners")
    return F.interpolate(of.tensor("x"), size=_upsampled(of), mode="bilinear", align_corners=corners)


def _upsample_nearest_neighbor(of: Operands) -> Tensor:
    """By whole factors only: which neighbour others take is not described.

    Raises:
        ValueError: another factor.
    """
    x, size = of.tensor("x"), _upsampled(of)
    if size[0] % x.shape[-2] or size[1] % x.shape[-1]:
        raise ValueError(f"upsample_nearest_neighbor from {tuple(x.shape[-2:])} to {tuple(size)} is no whole factor")
    return F.interpolate(x, size=size, mode="nearest")


def _reduction(compute: Callable[..., Tensor]) -> Callable[[Operands], Tensor]:
    """A reduction over axes, all by default."""

    def reduce(of: Operands) -> Tensor:
        x = of.tensor("x")
        return compute(x, of.ints("axes", range(x.ndim)), keepdim=of.flag("keep_dims"))

    return reduce


def _unary(compute: Callable[[Tensor], Tensor]) -> Callable[[Operands], Tensor]:
    """A function of each element."""
    return lambda of: compute(of.tensor("x"))


def _binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Operands], Tensor]:
    """A function of each pair of elements, with broadcasting."""
    return lambda of: compute(of.tensor("x"), of.tensor("y"))


OPERATIONS: dict[str, Callable[[Operands], Result]] = {
    "add": _binary(torch.add),
    "cast": _unary(lambda x: x),
    "concat": lambda of: torch.cat(of.tensors("values"), int(of.number("axis"))),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "elu": lambda of: F.elu(of.tensor("x"), of.number("alpha", 1.0)),
    "expand_dims": _expand_dims,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "mul": _binary(torch.mul),
    "real_div": _binary(torch.div),
    "reduce_mean": _reduction(torch.mean),
    "reduce_sum": _reduction(torch.sum),
    "relu": _unary(torch.relu),
    "reshape": _reshape,
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(F.silu),
    "slice_by_index": _slice_by_index,
    "softmax": lambda of: of.tensor("x").softmax(int(of.number("axis", -1))),
    "softplus": _unary(F.softplus),
    "softplus_parametric": _softplus_parametric,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda of: torch.stack(of.tensors("values"), int(of.number("axis"))),
    "sub": _binary(torch.sub),
    "tanh": _unary(torch.tanh),
    "transpose": lambda of: of.tensor("x").permute(of.ints("perm")),
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
"""By name; what is not here is refused."""
