"""Chooses how the recursion is computed; the plain form, in the module itself, is what is left."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Optional

import torch
from torch import Tensor, nn

from .autocast import autocast_dtype, disabled, plan
from .recconv import recconv2d
from .recompute import recconv2d_recompute

Form = Callable[..., Tensor]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_LEVEL = 5
_MIN_ELEMENTS = 1 << 21  # below, the host is the limit and its time a launch decides: docs/gpu.md


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


def _on_cuda(x: Tensor) -> bool:
    return x.is_cuda


def _transformed() -> bool:
    """Tracing, scripting, exporting or a functorch transform: these must see PyTorch's own operators."""
    if torch.jit.is_scripting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return True
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch._C._functorch.peek_interpreter_stack() is not None


def use_triton(x: Tensor, down: Tensor, levels: int) -> bool:
    """Whether the Triton kernels are used for these operands.

    True on CUDA devices of compute capability 8.0 or more for float32, float16 and bfloat16, kernels 3, 5 and 7
    and at most 5 levels, when the map is large enough. False under torch.jit, torch.fx, torch.export, ONNX
    export and functorch transforms. The environment variable RECNEXT_TRITON set to 0 says never, set to 1 says
    at any size.

    Args:
        x: (N, C, H, W).
        down: (C, 1, k, k).
        levels: number of times the map is halved.
    """
    if type(x) not in (Tensor, nn.Parameter) or type(down) not in (Tensor, nn.Parameter):
        return False  # torch.fx proxies, DTensor and other subclasses
    if not _on_cuda(x) or x.dtype not in _DTYPES or down.dtype not in _DTYPES or _transformed():
        return False
    if down.shape[-1] not in (3, 5, 7) or levels > _MAX_LEVEL or x.numel() == 0:
        return False
    setting = _setting()
    if setting == "0" or not _can_run(x.device.index):
        return False
    return setting == "1" or x.numel() >= _MIN_ELEMENTS


def choose(x: Tensor, down: Tensor, *, levels: int, recompute: bool) -> Optional[Form]:
    """The form to compute RecConv in, with the arguments of `recconv2d`, or None for the plain form.

    Args:
        x: (N, C, H, W), the input.
        down: (C, 1, k, k), the shared stride-2 weight.
        levels: number of times the map is halved.
        recompute: save only the input for the backward pass; the Triton form always does.
    """
    if isinstance(x, torch.fx.Proxy):
        return None
    if use_triton(x, down, levels):
        return recconv2d_cuda
    if recompute and torch.is_grad_enabled() and not _transformed():
        return recconv2d_recompute
    low = autocast_dtype(x) or x.dtype
    return recconv2d_float32 if low == torch.float16 and x.dtype != torch.float64 else None


def recconv2d_cuda(
    x: Tensor,
    down: Tensor,
    convs: list[Tensor],
    down_bias: Optional[Tensor] = None,
    conv_biases: Optional[list[Tensor]] = None,
    mode: str = "bilinear",
) -> Tensor:
    """`recconv2d` by Triton kernels, channels_last and float32 inside; saves only its input and weights."""
    from .library import recconv2d_eager, recconv2d_triton

    form = recconv2d_triton if torch.compiler.is_compiling() else recconv2d_eager
    return form(x, down, convs, down_bias, conv_biases or [], mode, plan(x)[1])


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
        recompute: saves only x and the weights for the backward pass.

    Returns:
        (N, C, H, W), in the dtype of x; under autocast in autocast's, but float32 for float16.
    """
    form = choose(x, down, levels=len(convs) - 1, recompute=recompute) or recconv2d
    return form(x, down, convs, down_bias, conv_biases, mode)
