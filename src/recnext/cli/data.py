"""`recnext data`: checks and indexes of data sets."""

import statistics
from pathlib import Path
from typing import Optional

from recnext.data.check import DataReport, check_data, list_images
from recnext.data.tars import INDEX, write_index
from recnext.errors import RecNextError
from recnext.files import require_outputs
from recnext.screen import Screen
from recnext.text import read_text

from .shared import make_table, print_json, progress_bar, require_at_least

_SHOWN = 10  # lines of each kind, without --json


def check(data: str, few: int = 10, workers: Optional[int] = None, json: bool = False) -> int:
    """Looks through a data set: files that cannot be read, class sizes, images that are there twice.

    Damaged files, an image in two classes and a wrong layout are errors: the exit status is then 1.

    Args:
        data: folder with train and val, a folder of class folders, or imagenet:ROOT, flowers102:ROOT, inat2018:ROOT.
        few: training classes with fewer images are named.
        workers: threads that read; by default one a CPU.
        json: print all that was found as JSON.
    """
    require_at_least(0, few=few)
    require_at_least(1, workers=workers)
    listing = list_images(data)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=len(listing.files))
        report = check_data(
            listing,
            source=data,
            few=few,
            workers=workers,
            on_file=lambda: bar.advance(task),
        )
    if json:
        print_json(report.to_dict())
    else:
        _print(report, few)
    return int(report.has_errors)


def index(folder: Path, class_names: Optional[Path] = None, overwrite: bool = False) -> int:
    """Counts tar shards and writes the _info.json that wds:FOLDER reads.

    Files named *train*.tar are for training, *val*.tar for evaluation.

    Args:
        folder: holds the shards.
        class_names: text file with a class name a line, in the order of the labels.
        overwrite: replace files that this command did not write.
    """
    names: tuple[str, ...] = ()
    if class_names is not None:
        if not class_names.is_file():
            raise RecNextError(f"there is no file {class_names}: expected a class name a line")
        names = tuple(read_text(class_names).splitlines())
    screen = Screen()
    require_outputs(folder, [INDEX], overwrite=overwrite, mark='{\n "splits": {')
    with Screen(stderr=True).status("reading shards"):
        splits = write_index(folder, class_names=names)
    for name, (shards, images) in splits.items():
        screen.print(f"{name}: {images} images in {shards} shard{'s' * (shards > 1)}")
    screen.print(f"written {folder / INDEX}")
    return 0


run = {"check": check, "index": index}


def _print(report: DataReport, few: int) -> None:
    table = make_table("split", "images", "classes", "smallest", "median", "largest", title=report.source)
    for split, classes in report.class_sizes.items():
        counts = sorted(classes.values())
        numbers = (sum(counts), len(counts), counts[0], statistics.median(counts), counts[-1])
        table.add_row(split or "all", *(f"{number:.12g}" for number in numbers))
    screen = Screen()
    screen.print(table)
    for message in report.mistakes:
        screen.print(f"error: {message}")
    for what, lines in (
        ("error: cannot be read", [f"{file}: {reason}" for file, reason in report.unreadable]),
        (
            "warning: the same image in two splits, which makes accuracy look better than it is",
            [" = ".join(group) for group in report.across],
        ),
        ("error: the same image in two classes", [" = ".join(group) for group in report.conflicting]),
        ("there twice", [" = ".join(group) for group in report.within]),
        (f"fewer than {few} images", [f"{name}: {images}" for _, name, images in report.near_empty]),
        ("left out, no images here", [f"{end or 'no ending'}: {n}" for end, n in report.survey.others.items()]),
        ("ignored, an operating system's", [f"{name}: {n}" for name, n in report.survey.ignored.items()]),
        ("links to folders", report.survey.links),
        ("links that lead back to a folder above, left out", report.survey.loops),
    ):
        if lines:
            screen.print(f"{what} ({len(lines)})")
            for line in lines[:_SHOWN]:
                screen.print(f"  {line}")
            if len(lines) > _SHOWN:
                screen.print(f"  and {len(lines) - _SHOWN} more: --json names all")
    if not report.has_errors:
        screen.print("no errors")
