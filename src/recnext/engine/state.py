"""A run's state as tensors and plain values: everything that the next step depends on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Optional

from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from recnext.errors import RecNextError

from .result import PeriodSums
from .run_folder import Record

_IN_RECORDS = {"epoch", "step", "train_loss", "images_per_second", "seconds"}


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Args:
        epoch: that are done; in a run counted in steps, evaluations.
        step: done since.
        sums: fields of `PeriodSums`.
        records: of the evaluations.
    """

    epoch: int
    step: int
    sums: dict[str, Any]
    records: list[Record]

    def checked(self) -> "Position":
        """Itself.

        Raises:
            ValueError: a value is not as a run saves it.
        """
        numbers = all(type(number) is int and 0 <= number < 2**31 for number in (self.epoch, self.step))
        sums = isinstance(self.sums, dict) and self.sums.keys() == vars(PeriodSums()).keys()
        records = isinstance(self.records, list) and all(
            isinstance(record, dict) and record.keys() >= _IN_RECORDS for record in self.records
        )
        if not (numbers and sums and records):
            raise ValueError("its position is none of a run")
        return self


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
) -> Position:
    """Puts a state of `collect` back.

    Returns:
        Where the run stands.

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
            return Position(**{entry.name: state[entry.name] for entry in fields(Position)}).checked()
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
