"""Accelerate set up from the settings: device, precision, processes."""

import os
import sys
from pathlib import Path
from typing import Optional

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import distributed, nn

from recnext.errors import RecNextError

from .devices import choose_device
from .settings import LoopSettings, Tracker
from .tracking import check_tracker

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_accelerator(
    *, device: str = "auto", precision: str = "auto", tracker: Tracker = "none", folder: Optional[Path] = None
) -> Accelerator:
    """The engine for one process, or for each of those that torchrun or accelerate started.

    Args:
        device: auto, cpu, cuda, cuda:N (alone), mps.
        precision: as in `LoopSettings`.
        tracker: as in `LoopSettings`.
        folder: where TensorBoard's files go.

    Raises:
        RecNextError: there is no such device here, it cannot compute in that precision, or the launcher asks for a
            way of sharing the network that the loop cannot save.
        MissingExtraError: the tracker is not installed.
    """
    chosen = choose_device(device)
    kind = chosen.type
    if precision == "auto":
        precision = "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and kind == "cpu":
        raise RecNextError("--precision fp16 needs a GPU: on the CPU use fp32 or bf16")
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True  # all batches have one shape
        if chosen.index is not None:
            torch.cuda.set_device(chosen)
    if not distributed.is_initialized():  # an earlier run in this process may have chosen otherwise
        AcceleratorState._reset_state(reset_partial_state=True)
    check_tracker(tracker)
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":  # as the launcher says it
        raise _unknown_sharing("FSDP")
    accelerator = Accelerator(
        cpu=kind == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=None if tracker == "none" else tracker,
        project_dir=None if folder is None else str(folder),
    )
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
    ):
        raise _unknown_sharing(accelerator.distributed_type.value)
    return accelerator


def _unknown_sharing(kind: str) -> RecNextError:
    return RecNextError(
        f"accelerate was started for {kind}, which this trainer cannot save: set distributed_type to MULTI_GPU (these "
        "networks fit on any GPU), or launch with torchrun"
    )


def precision_of(accelerator: Accelerator) -> str:
    """The precision in use: fp32, bf16 or fp16."""
    return "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision


def autocast_dtype(accelerator: Accelerator) -> Optional[torch.dtype]:
    """The low precision in use, None for float32."""
    return _DTYPES.get(accelerator.mixed_precision)


def wrapped(model: nn.Module, accelerator: Accelerator, settings: LoopSettings) -> nn.Module:
    """The network as a step runs it: in autocast, over processes, compiled."""
    prepared: nn.Module = accelerator.prepare_model(model)
    return torch.compile(prepared) if settings.compile else prepared  # type: ignore[return-value]


def unwrapped(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The network without autocast, so that it can be wrapped again."""
    return accelerator.unwrap_model(model, keep_fp32_wrapper=False)


def sync_batchnorm(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """BatchNorms that share their statistics over processes.

    Raises:
        RecNextError: on the CPU, where torch has none.
    """
    if accelerator.num_processes == 1:
        return model
    if accelerator.device.type == "cpu":
        raise RecNextError("--sync-batchnorm needs GPUs: leave it out on the CPU")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def peak_memory(device: torch.device) -> dict[str, float]:
    """``peak_memory_mib`` of the GPU's tensors, or of the process on the CPU; empty where it cannot be asked."""
    if device.type == "cuda":
        return {"peak_memory_mib": torch.cuda.max_memory_allocated(device) / 2**20}
    try:
        import resource
    except ImportError:  # Windows
        return {}
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


def broadcast_buffers(model: nn.Module) -> None:
    """Gives all processes the first one's buffers: each had gathered its own BatchNorm statistics."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
