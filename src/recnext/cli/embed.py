"""`recnext embed`: features of images, as a table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from recnext.deploy.optimize import forward_for
from recnext.engine.processes import process_group
from recnext.tasks.classification.table import EmbeddingSettings, TableSettings
from recnext.text import printable

from .predicting import report_unreadable
from .shared import progress_bar


def run(images: list[str], *, output: Path, overwrite: bool = False, **settings: Any) -> int:
    """Writes the features of images to a parquet file: columns image, features, error.

    Alone or under torchrun or accelerate launch. A run that was killed goes on with the same command: no row is lost
    or doubled. Images that cannot be read have an error and no features; then the exit status is 1.

    Args:
        images: files, folders (searched to any depth) and patterns, or tar shards such as "shards/*.tar".
        output: parquet file to write.
        overwrite: replace another table.
    """
    return write_table(EmbeddingSettings(**settings), images, output, overwrite=overwrite)


def write_table(settings: TableSettings, images: Sequence[str], output: Path, *, overwrite: bool) -> int:
    """Writes a table, or resumes it; the exit status is 1 when images could not be read.

    Args:
        settings: what to write.
        images: as the command line names them.
        output: ends in ``.parquet``.
        overwrite: replace another table.
    """
    with process_group(settings.device) as processes, progress_bar(quiet=not processes.first) as progress:
        bar = progress.add_task("images", total=None)

        def on_start(done: int, left: Optional[int]) -> None:
            progress.update(bar, total=left)
            if done and processes.first:
                print(printable(f"recnext: resuming {output}: {done} images are done"), file=sys.stderr)

        rows, failed = settings.write(
            images,
            output,
            overwrite=overwrite,
            processes=processes,
            accelerate=forward_for,
            on_start=on_start,
            on_rows=lambda count: progress.advance(bar, count),
        )
    status = report_unreadable(failed)
    if processes.first:
        print(printable(f"recnext: {rows} rows in {output}"), file=sys.stderr)
    return status
