"""How far an epoch or a run has come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from torch import nn

from .run_folder import Record


@dataclass(frozen=True)
class Step:
    """An optimizer step that is done.

    Args:
        number: from 1, in the run.
        total: of the run.
        loss: mean over all processes.
        lr: it was made with, the highest of the parameter groups'.
        images_per_second: of this epoch so far, over all processes.
        where: the position in words.
        model: the network itself, not wrapped.
    """

    number: int
    total: int
    loss: float
    lr: float
    images_per_second: float
    where: str
    model: nn.Module


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Args:
        records: a mapping an epoch, as in ``metrics.jsonl``.
        best: the record of the best epoch; None before the first.
        interrupted: the signal that stopped the run at (epoch, step); None when it is complete.
        position: (epoch, step) reached; in a run counted in steps the number of evaluations, and steps since.
        where: the same in words.
        seconds: of this session.
        folder: of the run.
    """

    records: Sequence[Record]
    best: Optional[Record]
    interrupted: Optional[int]
    position: tuple[int, int]
    where: str
    seconds: float
    folder: Path


@dataclass
class PeriodSums:
    """What an epoch (or another stretch between evaluations) adds up; saved, so that it may be continued."""

    loss: float = 0.0
    unreadable: int = 0
    seconds: float = 0.0
    trained: int = 0  # images in those seconds
    names: list[str] = field(default_factory=list)
