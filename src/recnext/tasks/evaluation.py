"""What the commands that use a network take alike, and what the evaluation of any task leaves."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from recnext.engine.job import Metric
from recnext.engine.settings import require
from recnext.errors import RecNextError
from recnext.files import MARK, require_outputs, write_atomically
from recnext.sizes import MOST_WORKERS
from recnext.text import to_json

from .grid import Grid
from .prediction import LIST_MARK, is_empty_list

_MARKS = {"result.json": '"data": ', "per_class.csv": "class,", "detections.json": LIST_MARK, "confusion.png": MARK}

OnImages = Callable[[int, int], None]
"""Called with the number of images that are done since the last call, and with that of all."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which network to use, and where.

    Args:
        checkpoint: weight file, run folder or hub id.
        model: timm name, such as recnext_m3, where the checkpoint does not name it.
        ema: take the moving average of the weights.
        fused: fold every BatchNorm: the same answers, faster.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    checkpoint: Optional[str] = None
    model: Optional[str] = None
    ema: bool = False
    fused: bool = True
    device: str = "auto"

    @property
    def given_checkpoint(self) -> str:
        """The checkpoint.

        Raises:
            RecNextError: none is given.
        """
        if self.checkpoint is None:
            raise RecNextError("no weights are given, and random ones tell nothing: add --checkpoint FILE or RUN")
        return self.checkpoint


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(NetworkSettings):
    """What an evaluation is asked for.

    Args:
        workers: processes that load images.
    """

    workers: int = 2

    def __post_init__(self) -> None:
        require(self, "workers", 0 <= self.workers <= MOST_WORKERS, f"an integer from 0 to {MOST_WORKERS}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Args:
        facts: all of it, plain values by name.
        lines: what to show, a title and a text each.
        classes: a row a class.
        files: what to write further, by name.
    """

    facts: Mapping[str, Any]
    lines: Sequence[tuple[str, str]]
    classes: Optional[Grid] = None
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes ``result.json``, ``per_class.csv`` and the files of the task into a folder, made where missing."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "result.json", to_json(self.facts, indent=1).encode() + b"\n")
        if self.classes is not None:
            self.classes.write(folder / "per_class.csv")
        for name, write in self.files.items():
            write(folder / name)


def require_results(folder: Path, *, overwrite: bool) -> None:
    """Checks, before any work, that the files of an evaluation may be written.

    Raises:
        RecNextError: there is a file in place of the folder, or one in it that no evaluation wrote.
    """
    for name, mark in _MARKS.items():
        require_outputs(folder, [name], overwrite=overwrite or is_empty_list(folder / name), mark=mark)


def metric_lines(
    metrics: Iterable[Metric], numbers: Mapping[str, float], *, published: Optional[Mapping[str, str]] = None
) -> list[tuple[str, str]]:
    """Title and value of each metric that was measured, with what is published of it."""
    lines = []
    for metric in metrics:
        if metric.key in numbers:
            value = numbers[metric.key]
            shown = "-" if value != value else f"{value:.2f} %" if metric.unit == "%" else f"{value:.4f}"
            known = (published or {}).get(metric.key)
            lines.append((metric.title, f"{shown}  (published: {known})" if known else shown))
    return lines


def checked(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same computation, which ends with an error where an answer is no number: the weights are damaged."""

    def compute(images: Tensor) -> Tensor:
        answers = forward(images)
        if not torch.isfinite(answers).all():
            raise RecNextError("the network's answers are not numbers (NaN or infinite): its weights are damaged")
        return answers

    return compute
