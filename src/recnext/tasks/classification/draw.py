"""The picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from recnext.engine.figures import drawn, figure

_LABELLED = 40  # more classes than this are drawn without names
_COUNTED = 20  # more classes than this are drawn without numbers


def draw_confusion(path: Path, confusion: Tensor, class_names: Sequence[str]) -> None:
    """Draws a confusion matrix, each row in shares of its class, with counts where they can be read.

    Args:
        path: of the PNG.
        confusion: int64 (classes, classes), rows the truth.
        class_names: in the order of the rows.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    count = len(class_names)
    images = int(confusion.sum())
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(max(4.2, 0.36 * count + 1.6), 14)
    with figure(path, side + 0.7, side) as drawing:
        axes = drawing.add_subplot()
        image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
        correct = 100 * int(confusion.diagonal().sum()) / max(images, 1)
        axes.set_title(f"{correct:.2f}% of {images} images are right")
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if count <= _LABELLED:
            names = [drawn(name) for name in class_names]
            axes.set_xticks(range(count), names, rotation=0 if max(map(len, names)) <= 3 else 90)
            axes.set_yticks(range(count), names)
            axes.tick_params(length=0)
        if count <= _COUNTED:
            for row, column in confusion.nonzero().tolist():
                dark = shares[row, column] > 0.5
                wrong = row != column
                axes.text(
                    column,
                    row,
                    str(int(confusion[row, column])),
                    ha="center",
                    va="center",
                    color="white" if dark else ("#c0392b" if wrong else "black"),
                    fontweight="bold" if wrong else "normal",
                )
        drawing.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
