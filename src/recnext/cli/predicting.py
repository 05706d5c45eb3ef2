"""Predictions of any task from the command line."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Union

from rich.progress import Progress, TaskID

from recnext.data.images import Unreadable
from recnext.data.listing import find_images
from recnext.data.video import split_videos
from recnext.tasks.prediction import Predicted, json_lines, predict_files
from recnext.text import printable

from .shared import progress_bar, require_folder, to_stdout

_REPORTED = 20  # unreadable images named at the end


def predict_pictures(settings: Any, images: Sequence[str], *, json: bool, output: str, overwrite: bool) -> int:
    """Predicts in images and videos, and draws what was found; the exit status is 1 when some cannot be read.

    Args:
        settings: of the predictions of a task.
        images: as the command line names them.
        json: print a JSON list in place of lines.
        output: folder of the drawings.
        overwrite: replace files in it that no such command wrote.
    """
    require_folder(output)
    stills, videos = split_videos(images)
    found = list(find_images(stills)) if stills else []
    predictor = settings.open()
    with progress_bar() as progress:
        bars: dict[str, TaskID] = {}

        def on_frames(video: str, done: int, total: int) -> None:
            if video not in bars:
                bars[video] = progress.add_task(Path(video).name, total=total or None)
            progress.update(bars[video], completed=done)

        results = predict_files(predictor, found, videos, folder=Path(output), on_frames=on_frames, overwrite=overwrite)
        count, unreadable = print_results(results, progress, total=len(found) + len(videos), json=json)
    if not json:
        print(printable(f"{count} drawn, in {output}"), file=sys.stderr)
    return report_unreadable(unreadable)


def print_results(
    results: Iterable[Union[Predicted, Unreadable]], progress: Progress, *, total: int, json: bool
) -> tuple[int, list[Unreadable]]:
    """Prints results as they come.

    Args:
        results: of a task.
        progress: shows how many are done.
        total: how many there will be.
        json: print a JSON list in place of lines.

    Returns:
        How many there were, and those that could not be read.
    """
    count, unreadable = 0, []
    with ExitStack() as stack:
        add = stack.enter_context(json_lines(lambda text: print(to_stdout(text), end=""))) if json else None
        bar = progress.add_task("images", total=total)
        for result in results:
            if isinstance(result, Unreadable):
                unreadable.append(result)
            else:
                count += 1
            if add is not None:
                plain = asdict(result) if isinstance(result, Unreadable) else {"image": result.image, **result.facts}
                add(plain)
            elif isinstance(result, Predicted):
                print(printable(f"{result.image}: {result.text}"), flush=sys.stdout.isatty())
            progress.advance(bar)
    return count, unreadable


def report_unreadable(unreadable: Sequence[Unreadable]) -> int:
    """Names the images that could not be read; the exit status."""
    lines = [f"cannot read {failed.image}: {failed.reason}" for failed in unreadable[:_REPORTED]]
    if len(unreadable) > _REPORTED:
        lines.append(f"and {len(unreadable) - _REPORTED} more")
    if unreadable:
        lines.append(f"{len(unreadable)} image{'s' * (len(unreadable) > 1)} could not be read")
    for line in lines:
        print(printable(f"recnext: {line}"), file=sys.stderr)
    return int(bool(unreadable))
