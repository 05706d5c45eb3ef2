"""The answers of a classifier in words and in a CSV file."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Optional, Union

from recnext.data.images import Unreadable
from recnext.tasks.grid import csv_rows
from recnext.tasks.prediction import Predicted

from .predict import Prediction

COLUMNS = ("image", "rank", "index", "class", "probability")
"""Of the CSV file, which begins with them."""


def described(
    results: Iterable[Union[Prediction, Unreadable]], *, table: Optional[Path] = None
) -> Iterator[Union[Predicted, Unreadable]]:
    """The results as every command prints them.

    Args:
        results: of `classify`.
        table: CSV file to write, a row for each image and class.

    Raises:
        OSError: the file cannot be written.
    """
    with ExitStack() as stack:
        write = None if table is None else stack.enter_context(csv_rows(table))
        if write is not None:
            write(COLUMNS)
        for result in results:
            if isinstance(result, Unreadable):
                yield result
                continue
            for rank, score in enumerate(result.classes, 1):
                if write is not None:
                    write((result.image, rank, score.index, score.name, f"{score.probability:.6f}"))
            text = ", ".join(f"{score.name} {100 * score.probability:.1f}%" for score in result.classes)
            yield Predicted(result.image, text, {"classes": [asdict(score) for score in result.classes]})
