"""A sheet of held-out images with what the network says of them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from recnext.engine.figures import figure

_COLUMNS, _ROWS = 10, 4
_RIGHT, _WRONG = "#1e7d45", "#c0392b"


def draw_samples(
    path: Path, *, images: Tensor, labels: Tensor, probabilities: Tensor, class_names: Sequence[str]
) -> None:
    """Draws forty images: mistakes and the least certain first, then some of every class.

    Args:
        path: of the PNG.
        images: uint8 (N, 3, H, W).
        labels: int64 (N,), the truth.
        probabilities: (N, classes).
        class_names: in the order of the labels.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    certainty, predictions = probabilities.max(1)
    wrong = predictions != labels
    doubtful = (certainty + (~wrong)).argsort()[:_COLUMNS]  # the wrong ones before all others
    chosen = doubtful.tolist()
    for turn in range(_ROWS - 1):
        for label in range(_COLUMNS):
            of_class = (
                (labels == label % len(class_names)) & ~torch.isin(torch.arange(len(labels)), doubtful)
            ).nonzero()
            chosen.append(int(of_class[turn]))
    with figure(path, 10, 5.6) as drawing:
        accuracy = 100 * (~wrong).float().mean().item()
        drawing.suptitle(
            f"{int((~wrong).sum())} of {len(labels)} held-out digits are right ({accuracy:.2f}%). "
            f"First row: {_first_row(int(wrong.sum()))}",
            fontsize=11,
        )
        for axes, index in zip(drawing.subplots(_ROWS, _COLUMNS).flat, chosen, strict=True):
            color = _WRONG if wrong[index] else _RIGHT
            axes.imshow(images[index].permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(True)
                spine.set_color(color)
                spine.set_linewidth(2.5 if wrong[index] else 1)
            text = f"{class_names[int(predictions[index])]}  {100 * certainty[index].item():.0f}%"
            if wrong[index]:
                text = f"{text}\nis {class_names[int(labels[index])]}"
            axes.set_title(text, color=color, fontsize=9, loc="center", fontweight="bold" if wrong[index] else "normal")


def _first_row(mistakes: int) -> str:
    if mistakes >= _COLUMNS:
        return f"{_COLUMNS} of the {mistakes} mistakes"
    return f"the {mistakes} mistakes, then the least certain" if mistakes else "the least certain"
