"""Accelerate set up from the settings: device, precision, processes."""

from typing import Optional

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import distributed

from recnext.devices import choose_device
from recnext.errors import RecNextError

from .settings import Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_accelerator(*, device: str = "auto", precision: Precision = "auto") -> Accelerator:
    """The engine for one process, or for each of those that torchrun or accelerate started.

    Args:
        device: auto, cpu, cuda, cuda:N (alone), mps.
        precision: as in `TrainSettings`.

    Raises:
        RecNextError: there is no such device here, or it cannot compute in that precision.
    """
    chosen = choose_device(device)
    kind = chosen.type
    if precision == "auto":
        precision = "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "no"
    if precision == "fp16" and kind == "cpu":
        raise RecNextError("--precision fp16 needs a GPU: on the CPU use no or bf16")
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        if chosen.index is not None:
            torch.cuda.set_device(chosen)
    if not distributed.is_initialized():  # an earlier run in this process may have chosen otherwise
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=kind == "cpu", mixed_precision=precision)


def autocast_dtype(accelerator: Accelerator) -> Optional[torch.dtype]:
    """The low precision in use, None for float32."""
    return _DTYPES.get(accelerator.mixed_precision)


def broadcast_buffers(model: torch.nn.Module) -> None:
    """Gives all processes the first one's buffers: each had gathered its own BatchNorm statistics."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
