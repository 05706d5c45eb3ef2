"""What a run shows on the terminal: a bar for the whole run, and a line an epoch that stays."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Optional

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from .run_folder import Record

_SECONDS_BETWEEN_LINES = 60.0  # in a log file, which has no bar


class RunProgress:
    """A context manager around the run.

    Args:
        console: where to; None stays silent (as all processes but the first do).
        total: optimizer steps of the whole run.
        position: steps done before, in a resumed run.
        where: the position in words.
    """

    def __init__(
        self, console: Optional[Console], *, total: int, position: int = 0, where: Callable[[], str] = lambda: ""
    ) -> None:
        self.console = console
        self.where = where
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

    def step(self, *, loss: float, lr: float, images_per_second: float) -> None:
        """A training step is done."""
        self.done += 1
        status = f"loss {loss:.3f}  lr {lr:.2e}  {images_per_second:.0f} img/s"
        self.bar.update(self.task, advance=1, description=self.where(), status=status)
        now = time.perf_counter()
        if not self.live and now - self.told > _SECONDS_BETWEEN_LINES:
            self.told = now
            left = (now - self.started) / (self.done - self.first) * (self.total - self.done)
            share = self.done / self.total
            self.note(f"{self.where()}, {share:.0%} of the run: {status}  left {timedelta(seconds=round(left))}")

    def evaluating(self) -> None:
        """The steps before an evaluation are done."""
        self.bar.update(self.task, status="evaluating")

    def period_done(self, where: str, record: Record, *, metrics: Sequence[str], best: bool) -> None:
        """Prints the line of an epoch.

        Args:
            where: the position in words.
            record: as in ``metrics.jsonl``.
            metrics: names of the task's in it.
            best: whether it is the best one so far.
        """
        if self.console is None:
            return
        shown = "  ".join(
            f"{'val' if name == 'val_loss' else name.replace('_', ' ')} {record[name]:.{4 if 'loss' in name else 2}f}"
            for name in metrics
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
