"""A run's state as tensors and plain values: everything that the next step depends on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from recnext.errors import RecNextError

POSITION = ("epoch", "step", "sums", "records")
"""What a state says of where the run stands."""


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
) -> dict[str, Any]:
    """Puts a state of `collect` back.

    Returns:
        The values of `POSITION`.

    Raises:
        RecNextError: another number of processes saved it, or it is of another network.
    """
    with _foreign(source):
        processes = int(state["processes"])
        if processes == accelerator.num_processes:
            model.load_state_dict(state["model"])
            if ema is not None:
                ema.module.load_state_dict(state["ema"])
            optimizer.load_state_dict(state["optimizer"])
            if accelerator.scaler is not None and state["scaler"] is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
            return {name: state[name] for name in POSITION}
    raise RecNextError(
        f"{source} was trained by {processes} processes, here are {accelerator.num_processes}: resume with as "
        "many, the batch depends on it"
    )


@contextmanager
def _foreign(source: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecNextError(
            f"{source} holds the state of another network or program ({type(error).__name__}: {reason}): start a new "
            "run with another --output"
        ) from None
