"""Names and numbers in rows, and the CSV files of them."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from recnext.files import open_atomically
from recnext.text import to_cell

Cell = Union[str, int, float]


@dataclass(frozen=True)
class Grid:
    """Rows of cells under their columns; a number that is none shows as "-", and as an empty cell in a file."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]

    def write(self, path: Path) -> None:
        """Writes a CSV file."""
        with csv_rows(path) as write:
            for row in (self.columns, *self.rows):
                write(row)


@contextmanager
def csv_rows(path: Path) -> Iterator[Callable[[Iterable[Cell]], None]]:
    """Opens a CSV file in UTF-8 and gives the function that writes a row; the file appears once all are written.

    Text that a spreadsheet would run gets an apostrophe first; floats have four decimals.

    Raises:
        OSError: it cannot be written.
    """
    with open_atomically(path, errors="backslashreplace") as file:
        writer = csv.writer(file)
        yield lambda row: writer.writerow([_cell(value) for value in row])


def _cell(value: Cell) -> Cell:
    if isinstance(value, float):
        return f"{value:.4f}" if value == value else ""
    return to_cell(value)  # type: ignore[no-any-return]
