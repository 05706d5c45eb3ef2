"""What several commands do alike: they check flags before anything heavy is read, and show how far the work is."""

import json as jsonlib
import re
import sys
from typing import Any, Optional

from rich import box
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from recnext.errors import RecNextError
from recnext.files import require_folder as require_folder
from recnext.limits import most
from recnext.screen import Screen
from recnext.sizes import SMALLEST_IMAGE as SMALLEST_IMAGE
from recnext.sizes import parse_size as parse_size
from recnext.text import printable, to_json

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def require_at_least(least: int, **values: Optional[int]) -> None:
    """Checks flags named as parameters are, ``batch_size`` for ``--batch-size``; None is a flag left out.

    Raises:
        RecNextError: one is smaller than `least`, or larger than such a number may be.
    """
    for name, value in values.items():
        if value is not None and not least <= value <= most(name):
            expected = f"an integer from {least}" if value < least else f"{most(name)} at most"
            raise RecNextError(f"--{name.replace('_', '-')} is {value}: expected {expected}")


def set_threads(threads: Optional[int]) -> None:
    """Sets torch's CPU threads; None leaves them.

    Raises:
        RecNextError: fewer than one.
    """
    require_at_least(1, threads=threads)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def make_table(*headings: str, text: int = 1, title: str = "", caption: str = "") -> Table:
    """An empty table.

    Args:
        headings: of its columns.
        text: how many of them, from the left, hold text that may be folded; numbers in the others are not.
        title: above.
        caption: below.
    """
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for index, heading in enumerate(headings):
        if index < text:
            table.add_column(heading, overflow="fold", vertical="bottom")
        else:
            table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    return table


def print_json(value: Any, *, default: Any = None) -> None:
    """Prints a result for ``--json``."""
    print(to_stdout(to_json(value, indent=1, default=default)))


def to_stdout(json: str) -> str:
    """JSON in which what the encoding of stdout cannot hold is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    return json if encoding.lower() == "utf-8" else _BEYOND_ASCII.sub(lambda match: jsonlib.dumps(match[0])[1:-1], json)


class _What(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(printable(task.description))


def progress_bar(*, quiet: bool = False) -> Progress:
    """A bar with count, time passed and time left on a terminal's standard error, gone at the end.

    Args:
        quiet: show none.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(
        _What(),
        *columns,
        console=Screen(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        disable=quiet or not sys.stderr.isatty(),
    )
