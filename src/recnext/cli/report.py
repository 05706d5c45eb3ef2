"""`recnext report`."""

import sys
from pathlib import Path
from typing import Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recnext.checkpoints.atomic import write_atomically
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.study.report import build_report

from .shared import require_at_least


def run(
    folder: Path,
    *,
    data: Optional[str] = None,
    output: Optional[Path] = None,
    device: str = "auto",
    batch_size: int = 64,
    workers: int = 2,
    mistakes: int = 24,
    erf_images: int = 16,
) -> int:
    """Writes one HTML page about a run: curves, mistakes, confusion, calibration, classes, speed, recipe.

    The page needs no network and runs no script. Its best weights are evaluated for it where the images are there;
    results that "recnext eval --output FOLDER/..." left in the run folder are in it, too.

    Args:
        folder: run folder of "recnext train".
        data: images to evaluate on; by default those of the run.
        output: HTML file; by default report.html in the run folder.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images at once.
        workers: processes that load images.
        mistakes: shown at most.
        erf_images: for the effective receptive field; 0 leaves it out.
    """
    require_at_least(1, batch_size=batch_size)
    require_at_least(0, workers=workers, mistakes=mistakes, erf_images=erf_images)
    target = choose_device(device)
    path = output or folder / "report.html"
    if not path.parent.is_dir():
        raise RecNextError(f"cannot write {path}: there is no folder {path.parent}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)

        def on_progress(what: str, done: int, total: Optional[int]) -> None:
            if total is not None:
                progress.reset(task, description=what, total=total)
            progress.advance(task, done)

        page = build_report(
            folder,
            data=data,
            device=target,
            batch_size=batch_size,
            workers=workers,
            mistakes=mistakes,
            erf_images=erf_images,
            on_progress=on_progress,
        )
    write_atomically(path, page.encode())
    Console().print(f"{path}, {len(page) / 2**10:.0f} KiB", highlight=False, soft_wrap=True)
    return 0
