"""Chooses among the forms of the recursion. The plain form is always right; the others must win to be used."""

import os
from importlib.util import find_spec
from typing import Optional

import torch
from torch import Tensor, nn

from .autocast import plan
from .recconv import recconv2d
from .recompute import recconv2d_recompute

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_LEVEL = 5
_MIN_ELEMENTS = 1 << 16  # below, launches cost more than the memory traffic that they save


@torch.compiler.assume_constant_result
def _setting() -> str:
    """RECNEXT_TRITON: "0" never, "1" wherever the kernels can run, else where they win."""
    return os.environ.get("RECNEXT_TRITON", "")


@torch.compiler.assume_constant_result
def _can_run(device: Optional[int]) -> bool:
    """Triton with tuples in kernels, and a GPU that it was tested for."""
    if find_spec("triton") is None or torch.version.hip is not None:
        return False
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    return version >= (3, 3) and torch.cuda.get_device_capability(device) >= (8, 0)


def _transformed() -> bool:
    """Tracing, scripting, exporting or a functorch transform: these must see PyTorch's own operators."""
    if torch.jit.is_scripting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return True
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch._C._functorch.peek_interpreter_stack() is not None


def use_triton(x: Tensor, down: Tensor, convs: list[Tensor]) -> bool:
    """Whether `fast_recconv2d` would take the Triton kernels for these operands.

    True on CUDA devices of compute capability 8.0 or more for float32, float16 and bfloat16, kernels 3, 5 and 7
    and at most 5 levels, when the map is large enough. False under torch.jit, torch.fx, torch.export, ONNX
    export and functorch transforms. The environment variable RECNEXT_TRITON set to 0 says never, set to 1 says
    at any size.

    Args:
        x: (N, C, H, W).
        down: (C, 1, k, k).
        convs: level + 1 weights (C, 1, k, k).
    """
    if type(x) not in (Tensor, nn.Parameter) or type(down) not in (Tensor, nn.Parameter):
        return False  # torch.fx proxies, DTensor and other subclasses
    if not x.is_cuda or x.dtype not in _DTYPES or down.dtype not in _DTYPES or _transformed():
        return False
    if down.shape[-1] not in (3, 5, 7) or len(convs) - 1 > _MAX_LEVEL or x.numel() == 0:
        return False
    setting = _setting()
    if setting == "0" or not _can_run(x.device.index):
        return False
    return setting == "1" or x.numel() >= _MIN_ELEMENTS


def fast_recconv2d(
    x: Tensor,
    down: Tensor,
    convs: list[Tensor],
    down_bias: Optional[Tensor] = None,
    conv_biases: Optional[list[Tensor]] = None,
    mode: str = "bilinear",
    *,
    recompute: bool = False,
) -> Tensor:
    """`recconv2d` by the fastest form for its operands; same results.

    Args:
        x: (N, C, H, W).
        down: (C, 1, k, k), the stride-2 depthwise weight that all levels share; k odd.
        convs: level + 1 depthwise weights (C, 1, k, k), coarsest level first.
        down_bias: (C,) or None.
        conv_biases: level + 1 tensors (C,), or None.
        mode: "bilinear" (align_corners False) or "nearest".
        recompute: saves only x and the weights for the backward pass. The Triton form always does.

    Returns:
        (N, C, H, W), in the dtype of x; under autocast in autocast's, but float32 for float16 where the form
        keeps its levels in float32 (Triton and recompute), so that the norm after it sees the full range.
    """
    if use_triton(x, down, convs):
        from .library import recconv2d_triton

        return recconv2d_triton(x, down, convs, down_bias, conv_biases or [], mode, plan(x)[1])
    if recompute and torch.is_grad_enabled() and not _transformed():
        return recconv2d_recompute(x, down, convs, down_bias, conv_biases, mode)
    return recconv2d(x, down, convs, down_bias, conv_biases, mode)
