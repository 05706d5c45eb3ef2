"""The one rule which form of the recursion runs now; the modules' own convolutions are what is left."""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Optional

import torch
from torch import Tensor, nn

from .autocast import autocast_dtype, disabled, dtypes
from .recconv import recconv2d
from .recompute import recconv2d_recompute

try:
    from torch._C._functorch import peek_interpreter_stack
except ImportError:

    def peek_interpreter_stack() -> None:  # type: ignore[misc]
        """PyTorch has moved the name: functorch transforms over the kernels then end in PyTorch's own error."""


Form = Callable[..., Tensor]

SETTING = os.environ.get("RECNEXT_TRITON", "")
"""RECNEXT_TRITON as it was at import: "0" for no kernels, "1" for kernels at any size, else where they win."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_LEVEL = 5
_MIN_ELEMENTS = 1 << 21  # below, the host's time a launch decides, where the host launches: docs/gpu.md
_MAX_IMAGE = 1 << 31  # elements of one image: the kernels count them in 32 bits


@cache
def _triton_fits() -> bool:
    """Whether this machine has a Triton that takes tuples in kernels, for CUDA."""
    if find_spec("triton") is None or torch.version.hip is not None:
        return False
    import triton

    return tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 3)


@torch.compiler.assume_constant_result
def runs_on(device: torch.device) -> bool:
    """Whether the Triton kernels run on a device: CUDA of compute capability 8.0 or more, with Triton 3.3 or later."""
    return device.type == "cuda" and _triton_fits() and torch.cuda.get_device_capability(device) >= (8, 0)


@torch.compiler.assume_constant_result  # PyTorch 2.11's compiler folds is_exporting() to True by itself
def _exporting() -> bool:
    return torch.compiler.is_exporting()


@torch.compiler.assume_constant_result
def _seen_through() -> bool:
    """Whether what runs now must consist of PyTorch's own operators.

    So it is in an export (the older one to ONNX traces), in a trace and under a functorch transform.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing() or peek_interpreter_stack() is not None


def launched_by_host(device: torch.device) -> bool:
    """Whether Python launches each kernel itself, rather than a compiled graph or a CUDA graph."""
    if torch.compiler.is_compiling():
        return False
    return device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


def kernels_take(x: Tensor, down: Tensor, levels: int) -> bool:
    """Whether the Triton kernels compute these operands, and are worth it.

    They take float32, float16 and bfloat16, kernels 3, 5 and 7, at most 5 levels and images of fewer than 2^31
    elements. They are worth it for large maps, and for all of them where a compiler or a CUDA graph launches.
    """
    if type(x) not in (Tensor, nn.Parameter) or type(down) not in (Tensor, nn.Parameter):
        return False  # DTensor, fake tensors and other subclasses
    if SETTING == "0" or x.dtype not in _DTYPES or down.dtype not in _DTYPES or not runs_on(x.device):
        return False
    if down.shape[-1] not in (3, 5, 7) or levels > _MAX_LEVEL or x.numel() == 0 or x.shape[1:].numel() >= _MAX_IMAGE:
        return False
    return SETTING == "1" or x.numel() >= _MIN_ELEMENTS or not launched_by_host(x.device)


def choose(x: Tensor, down: nn.Module, convs: nn.ModuleList, *, recompute: bool) -> Optional[Form]:
    """The form that computes RecConv now, with the arguments of `recconv2d`; None for the modules themselves.

    - fx sees the modules, and so does what replaces them, as LoRA does;
    - torch.export sees the definition, `recconv2d`, without modules that are called more than once;
    - torch.jit, ONNX export and functorch transforms see PyTorch's operators;
    - eager code, torch.compile and CUDA graphs get the kernels where these run;
    - float16 is computed in float32.

    Args:
        x: (N, C, H, W), the input.
        down: the convolution that all levels share.
        convs: one convolution a level.
        recompute: save only the input for the backward pass; the Triton form always does.
    """
    if isinstance(x, torch.fx.Proxy) or any(type(conv) is not nn.Conv2d for conv in (down, *convs)):
        return None
    if not _seen_through():
        if kernels_take(x, down.weight, len(convs) - 1):  # type: ignore[arg-type]
            return recconv2d_cuda
        if recompute and torch.is_grad_enabled():
            return recconv2d_recompute
    if (autocast_dtype(x) or x.dtype) == torch.float16 and x.dtype != torch.float64:
        return recconv2d_float32
    return recconv2d if _exporting() else None


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
    return form(x, down, convs, down_bias, conv_biases or [], mode, dtypes(x)[1])


def recconv2d_float32(
    x: Tensor,
    down: Tensor,
    convs: list[Tensor],
    down_bias: Optional[Tensor] = None,
    conv_biases: Optional[list[Tensor]] = None,
    mode: str = "bilinear",
) -> Tensor:
    """`recconv2d` of float16 in float32, so that the levels cannot overflow; float32 out under autocast."""
    _, out = dtypes(x)
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
