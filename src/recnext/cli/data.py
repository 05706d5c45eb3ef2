"""`recnext data`: checks and indexes of data sets."""

import json as jsonlib
import statistics
from pathlib import Path
from typing import Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recnext.data.check import DataReport, check_data, list_images
from recnext.data.tars import INDEX, write_index
from recnext.errors import RecNextError

from .shared import require_at_least

_SHOWN = 10  # lines of each kind, without --json


def check(data: str, few: int = 10, workers: Optional[int] = None, json: bool = False) -> int:
    """Looks through a data set: files that cannot be read, class sizes, images that are there twice.

    Damaged files, an image in two splits or in two classes and a wrong layout are errors: the exit status is then 1.

    Args:
        data: folder with train and val, a folder of class folders, or imagenet:ROOT, flowers102:ROOT, inat2018:ROOT.
        few: training classes with fewer images are named.
        workers: threads that read; by default one a CPU.
        json: print all that was found as JSON.
    """
    require_at_least(0, few=few)
    require_at_least(1, workers=workers)
    listing = list_images(data)
    console = Console(stderr=json)
    with Progress(
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("", total=len(listing.files))
        report = check_data(
            listing,
            source=data,
            few=few,
            workers=workers,
            on_file=lambda: progress.advance(bar),
        )
    if json:
        print(jsonlib.dumps(report.to_dict(), indent=1, ensure_ascii=False))
    else:
        _print(report, console, few)
    return int(report.has_errors)


def index(folder: Path, class_names: Optional[Path] = None) -> int:
    """Counts tar shards and writes the _info.json that wds:FOLDER reads.

    Files named *train*.tar are for training, *val*.tar for evaluation.

    Args:
        folder: holds the shards.
        class_names: text file with a class name a line, in the order of the labels.
    """
    names: tuple[str, ...] = ()
    if class_names is not None:
        if not class_names.is_file():
            raise RecNextError(f"there is no file {class_names}: expected a class name a line")
        names = tuple(class_names.read_text(encoding="utf-8").splitlines())
    with Console(stderr=True).status("reading shards"):
        splits = write_index(folder, class_names=names)
    for name, (shards, images) in splits.items():
        print(f"{name}: {images} images in {shards} shard{'s' * (shards > 1)}")
    print(f"written {folder / INDEX}")
    return 0


run = {"check": check, "index": index}


def _print(report: DataReport, console: Console, few: int) -> None:
    table = Table("split", "images", "classes", "smallest", "median", "largest", title=report.source)
    for split, classes in report.class_sizes.items():
        counts = sorted(classes.values())
        middle = f"{statistics.median(counts):g}"
        table.add_row(
            split or "all", str(sum(counts)), str(len(counts)), str(counts[0]), middle, str(counts[-1])
        )  # fmt: skip
    console.print(table)
    for message in report.mistakes:
        console.print(f"error: {message}", markup=False, highlight=False, soft_wrap=True)
    for what, lines in (
        ("error: cannot be read", [f"{file}: {reason}" for file, reason in report.unreadable]),
        ("error: the same image in two splits", [" = ".join(group) for group in report.across]),
        ("error: the same image in two classes", [" = ".join(group) for group in report.conflicting]),
        ("there twice", [" = ".join(group) for group in report.within]),
        (f"fewer than {few} images", [f"{name}: {images}" for _, name, images in report.near_empty]),
        ("left out, no images here", [f"{end or 'no ending'}: {n}" for end, n in report.survey.others.items()]),
        ("ignored, an operating system's", [f"{name}: {n}" for name, n in report.survey.ignored.items()]),
        ("links to folders, followed", report.survey.links),
        ("links that lead back to a folder above, left out", report.survey.loops),
    ):
        if lines:
            console.print(f"{what} ({len(lines)})", markup=False, highlight=False)
            for line in lines[:_SHOWN]:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
            if len(lines) > _SHOWN:
                console.print(f"  and {len(lines) - _SHOWN} more: --json names all")
    if not report.has_errors:
        console.print("no errors")
