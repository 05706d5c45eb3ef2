"""What a run shows on the terminal: a bar for the run, and a line an epoch that stays."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Optional

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from .job import EMA, Metric
from .result import Step
from .run_folder import Record

_SECONDS_BETWEEN_LINES = 60.0  # in a log file, which has no bar


@dataclass(frozen=True)
class Watch:
    """Who looks on while a run trains.

    Args:
        console: for the progress; None is silent.
        on_step: called after each optimizer step, and after the save that may follow it.
        on_period: called after each evaluation and its save.
    """

    console: Optional[Console] = None
    on_step: Callable[[Step], None] = lambda step: None
    on_period: Callable[[Record], None] = lambda record: None


class RunProgress:
    """A context manager around the run.

    Args:
        console: where to; None stays silent (as all processes but the first do).
        total: optimizer steps of the run.
        position: steps done before, in a resumed run.
        metrics: of the evaluations.
    """

    def __init__(
        self, console: Optional[Console], *, total: int, position: int = 0, metrics: Sequence[Metric] = ()
    ) -> None:
        self.console = console
        self.titles = {prefix + metric.key: metric.title for prefix in ("", EMA) for metric in metrics}
        self.live = console is not None and console.is_terminal
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self.task: TaskID = self.bar.add_task("", total=total, completed=position, status="")
        self.started = self.told = time.perf_counter()
        self.first, self.done, self.total = position, position, total

    def __enter__(self) -> "RunProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def step(self, step: Step) -> None:
        """A training step is done."""
        self.done += 1
        status = f"loss {step.loss:.3f}  lr {step.lr:.2e}  {step.images_per_second:.0f} img/s"
        self.bar.update(self.task, advance=1, description=step.where, status=status)
        now = time.perf_counter()
        if not self.live and now - self.told > _SECONDS_BETWEEN_LINES:
            self.told = now
            left = (now - self.started) / (self.done - self.first) * (self.total - self.done)
            share = self.done / self.total
            self.note(f"{step.where}, {share:.0%} of the run: {status}  left {timedelta(seconds=round(left))}")

    def evaluating(self) -> None:
        """The steps before an evaluation are done."""
        self.bar.update(self.task, status="evaluating")

    def period_done(self, where: str, record: Record, *, best: bool) -> None:
        """Prints the line of an epoch.

        Args:
            where: the position in words.
            record: as in ``metrics.jsonl``.
            best: whether it is the best one so far.
        """
        if self.console is None:
            return
        shown = "  ".join(
            f"{'averaged ' * key.startswith(EMA)}{title} {record[key]:.{4 if 'loss' in key else 2}f}"
            for key, title in self.titles.items()
            if key in record
        )
        self.console.print(
            f"{where}  loss {record['train_loss']:.4f}  {shown}  lr {record['lr']:.1e}  "
            f"{record['images_per_second']:.0f} img/s  {record['seconds']:.1f} s",
            Text("  best" if best else "", "green"),
            highlight=False,
            markup=False,
            soft_wrap=True,
            sep="",
        )

    def note(self, text: str) -> None:
        """Prints a line."""
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)
