"""A run's state as tensors and plain values: everything that the next step depends on."""

from typing import Any, Optional

from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from recnext.errors import RecNextError


def collect(
    model: nn.Module, ema: Optional[ModelEmaV3], optimizer: Optimizer, accelerator: Accelerator, **position: Any
) -> dict[str, Any]:
    """The state of the parts, with `position` among it."""
    scaler = accelerator.scaler
    return {
        **position,
        "processes": accelerator.num_processes,
        "model": model.state_dict(),
        "ema": None if ema is None else ema.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }


def restore(
    state: dict[str, Any],
    model: nn.Module,
    ema: Optional[ModelEmaV3],
    optimizer: Optimizer,
    accelerator: Accelerator,
    *,
    source: str,
) -> None:
    """Puts a state of `collect` back.

    Raises:
        RecNextError: another number of processes saved it.
    """
    if state["processes"] != accelerator.num_processes:
        raise RecNextError(
            f"{source} was trained by {state['processes']} processes, here are "
            f"{accelerator.num_processes}: resume with as many, the batch depends on it"
        )
    model.load_state_dict(state["model"])
    if ema is not None:
        ema.module.load_state_dict(state["ema"])
    optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
