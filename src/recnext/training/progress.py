"""What a run shows on the terminal: a bar for the whole run, and a line an epoch that stays."""

from typing import Any, Optional

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .run_folder import Record


class RunProgress:
    """A context manager around the epochs.

    Args:
        console: where to; None stays silent (as all processes but the first do).
        epochs: of the whole run.
        steps: in an epoch.
        position: steps done before, in a resumed run.
    """

    def __init__(self, console: Optional[Console], *, epochs: int, steps: int, position: int = 0) -> None:
        self.console = console
        self.epochs = epochs
        live = console is not None and console.is_terminal
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not live,
        )
        self.task: TaskID = self.bar.add_task("", total=epochs * steps, completed=position, status="")

    def __enter__(self) -> "RunProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def step(self, epoch: int, *, loss: float, lr: float, images_per_second: float) -> None:
        """A training step is done."""
        status = f"loss {loss:.3f}  lr {lr:.2e}  {images_per_second:.0f} img/s"
        self.bar.update(self.task, advance=1, description=f"epoch {epoch + 1}/{self.epochs}", status=status)

    def evaluating(self) -> None:
        """The steps of the epoch are done."""
        self.bar.update(self.task, status="evaluating")

    def epoch_done(self, record: Record, *, best: bool) -> None:
        """Prints an epoch's line."""
        if self.console is None:
            return
        metrics = "  ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in record.items() if "top" in name)
        self.console.print(
            f"epoch {record['epoch'] + 1:>{len(str(self.epochs))}}/{self.epochs}  "
            f"loss {record['train_loss']:.4f}  val {record['val_loss']:.4f}  {metrics}  lr {record['lr']:.1e}  "
            f"{record['images_per_second']:.0f} img/s  {record['seconds']:.1f} s{'  [green]best' if best else ''}",
            highlight=False,
            soft_wrap=True,
        )

    def note(self, text: str) -> None:
        """Prints a line."""
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)
