"""Compares the Triton form with the plain one; run as a program it prints one JSON object of errors a case.

With TRITON_INTERPRET=1 the kernels run on the CPU; the variable must be set before triton is imported, so tests
start this file in a process of its own. `check` also serves the GPU tests.
"""

import json
import sys

import torch

from nn.ops.recconv_cases import detached, error, flat, operands
from recnext.nn.ops.library import recconv2d_triton
from recnext.nn.ops.recconv import recconv2d

# name: shape, kernel, level, mode, bias, dtype
CASES = {
    "even": ((2, 16, 8, 8), 5, 1, "bilinear", False, "float32"),
    "odd": ((1, 8, 5, 7), 5, 2, "bilinear", True, "float32"),
    "tall": ((2, 5, 7, 4), 3, 2, "bilinear", True, "float32"),
    "nearest": ((1, 8, 5, 6), 5, 1, "nearest", True, "float32"),
    "seven": ((1, 4, 9, 10), 7, 1, "bilinear", False, "float32"),
    "seven nearest": ((1, 3, 3, 5), 7, 1, "nearest", False, "float32"),
    "level 0": ((2, 6, 5, 5), 3, 0, "bilinear", True, "float32"),
    "pixels": ((1, 8, 1, 3), 3, 4, "bilinear", False, "float32"),
    "level 5": ((1, 8, 3, 2), 3, 5, "bilinear", False, "float32"),
    "bfloat16": ((1, 16, 8, 7), 3, 1, "bilinear", True, "bfloat16"),
    "float16": ((1, 8, 7, 8), 3, 2, "nearest", True, "float16"),
}


def check(name: str, device: str, seed: int) -> dict[str, float]:
    """Relative errors of the output and of every gradient against float64 autograd on the CPU."""
    shape, kernel, level, mode, bias, dtype_name = CASES[name]
    dtype = getattr(torch, dtype_name)
    args = operands(shape, kernel, level, bias, dtype=dtype, device=device, seed=seed)
    ours, exact = detached(args), detached(tuple_to(args, torch.float64, "cpu"))
    x, down, convs, down_bias, conv_biases = ours
    out = recconv2d_triton(x, down, convs, down_bias, conv_biases or [], mode, dtype)
    expected = recconv2d(*exact, mode)
    cotangent = operands(shape, kernel, level, dtype=dtype, device=device, seed=seed + 1)[0]
    out.backward(cotangent)
    expected.backward(cotangent.double().cpu())
    errors = {"out": error(out, expected)}
    for i, (got, reference) in enumerate(zip(flat(ours), flat(exact), strict=True)):
        assert got.grad.shape == got.shape
        assert got.grad.dtype == got.dtype
        unused = torch.zeros_like(reference)  # `down` at level 0
        errors[f"grad {i}"] = error(got.grad, unused if reference.grad is None else reference.grad)
    return errors


def tuple_to(args: tuple, dtype: torch.dtype, device: str) -> tuple:
    """`operands` in another dtype, on another device."""
    x, down, convs, down_bias, conv_biases = args
    moved = [None if t is None else t.to(device=device, dtype=dtype) for t in (x, down, down_bias)]
    lists = [None if ts is None else [t.to(device=device, dtype=dtype) for t in ts] for ts in (convs, conv_biases)]
    return moved[0], moved[1], lists[0], moved[2], lists[1]


if __name__ == "__main__":
    seed = int(sys.argv[1])
    print(json.dumps({name: check(name, "cpu", seed) for name in sys.argv[2:]}))
