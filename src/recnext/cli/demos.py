"""The end of every demo: what it reached, where its files are, what to run next."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from recnext.screen import Screen


def show_demo(
    screen: Screen,
    title: str,
    lines: Sequence[tuple[str, str]],
    folder: Path,
    files: Mapping[str, str],
    commands: Sequence[str],
) -> None:
    """Prints a table and the commands.

    Args:
        screen: to print on.
        title: above the table.
        lines: what was reached, a title and a text each.
        folder: of the demo.
        files: what may be in it, with what each is.
        commands: to run next.
    """
    screen.print(title)
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    for row in (*lines, *((str(folder / name), text) for name, text in files.items() if (folder / name).exists())):
        table.add_row(*row)
    screen.print(table)
    screen.print("Next:\n")
    for command in commands:
        screen.print(f"  {command}")
