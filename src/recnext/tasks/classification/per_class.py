"""Tables of an evaluation."""

import csv
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor


def write_per_class(path: Path, confusion: Tensor, class_names: Sequence[str]) -> None:
    """Writes a CSV with a line a class: images, correct ones, accuracy, and what it is most confused with.

    Args:
        path: of the CSV.
        confusion: int64 (classes, classes), rows the truth.
        class_names: in the order of the rows.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("class", "images", "correct", "accuracy", "predicted_as", "confused_with", "confusions"))
        predicted_as = confusion.sum(0).tolist()
        for label, name in enumerate(class_names):
            row = confusion[label].clone()
            images, correct = int(row.sum()), int(row[label])
            row[label] = 0
            wrong, other = (int(value) for value in row.max(0))
            writer.writerow(
                (
                    name,
                    images,
                    correct,
                    f"{100 * correct / images:.2f}" if images else "",
                    predicted_as[label],
                    class_names[other] if wrong else "",
                    wrong,
                )
            )
