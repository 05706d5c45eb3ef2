"""`recnext report`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from recnext.files import require_output, write_atomically
from recnext.screen import Screen
from recnext.study.report.build import ReportSettings, build_report

from .shared import progress_bar


def run(folder: Path, *, output: Optional[Path] = None, overwrite: bool = False, **settings: Any) -> int:
    """Writes one HTML page about a run: curves, mistakes, confusion, calibration, classes, speed, recipe.

    The page needs no network and runs no script. Its best weights are evaluated for it where the images are there;
    results that "recnext eval --output FOLDER/..." left in the run folder are in it, too.

    Args:
        folder: run folder of "recnext train".
        output: HTML file; by default report.html in the run folder.
        overwrite: replace files that this command did not write.
    """
    chosen = ReportSettings(**settings)
    path = output or folder / "report.html"
    require_output(path, overwrite=overwrite)
    with progress_bar() as bar:
        task = bar.add_task("", total=None)

        def on_progress(what: str, done: int, total: Optional[int]) -> None:
            if total is not None:
                bar.reset(task, description=what, total=total)
            bar.advance(task, done)

        page = build_report(folder, on_progress=on_progress, **asdict(chosen))
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    Screen().print(f"{path}, {len(page) / 2**10:.0f} KiB")
    return 0
