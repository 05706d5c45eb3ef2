"""`recnext report`."""

from pathlib import Path
from typing import Optional

from recnext.engine.devices import choose_device
from recnext.files import require_output, write_atomically
from recnext.screen import Screen
from recnext.study.report import build_report

from .shared import progress_bar, require_at_least


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
    overwrite: bool = False,
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
        overwrite: replace files that this command did not write.
    """
    require_at_least(1, batch_size=batch_size)
    require_at_least(0, workers=workers, mistakes=mistakes, erf_images=erf_images)
    target = choose_device(device)
    path = output or folder / "report.html"
    require_output(path, overwrite=overwrite)
    with progress_bar() as bar:
        task = bar.add_task("", total=None)

        def on_progress(what: str, done: int, total: Optional[int]) -> None:
            if total is not None:
                bar.reset(task, description=what, total=total)
            bar.advance(task, done)

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
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    Screen().print(f"{path}, {len(page) / 2**10:.0f} KiB")
    return 0
