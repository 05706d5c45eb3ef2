"""The curves of a run. They need matplotlib (the `plots` extra)."""

from collections.abc import Sequence
from pathlib import Path

from recnext.evaluation.plots import figure

from .run_folder import Record

_TRAIN, _VAL, _EMA = "#7f8c8d", "#1f5fa8", "#d35400"
_MONITORED = {"top1", "miou"}  # their best value is written beside it


def draw_curves(path: Path, records: Sequence[Record]) -> None:
    """Draws loss, accuracy and learning rate over epochs; over steps where several records fall into one epoch.

    Args:
        path: of the PNG.
        records: lines of ``metrics.jsonl``, at least one.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    epochs = [record["epoch"] + 1 for record in records]
    unit = "epoch"
    if len({*epochs}) < len(epochs):
        epochs, unit = [record["step"] for record in records], "step"
    marker = "o" if len(epochs) <= 30 else ""

    with figure(path, 10, 3.2) as drawing:
        loss, accuracy, rate = drawing.subplots(1, 3)
        for axes, title in ((loss, "loss"), (accuracy, "accuracy, %"), (rate, "learning rate")):
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.grid(alpha=0.25)
            axes.xaxis.get_major_locator().set_params(integer=True)
        for axes, key, label, color in (
            (loss, "train_loss", "training", _TRAIN),
            (loss, "val_loss", "validation", _VAL),
            (accuracy, "top5", "top-5", _TRAIN),
            (accuracy, "top1", "top-1", _VAL),
            (accuracy, "ema_top1", "top-1, averaged weights", _EMA),
            (accuracy, "aacc", "pixel accuracy", _TRAIN),
            (accuracy, "miou", "mIoU", _VAL),
            (accuracy, "ema_miou", "mIoU, averaged weights", _EMA),
            (rate, "lr", "", _VAL),
        ):
            if key in records[0]:
                values = [record[key] for record in records]
                axes.plot(epochs, values, marker=marker, markersize=3, color=color, label=label)
        for key in _MONITORED & records[0].keys():
            best = max(range(len(records)), key=lambda index: records[index][key])
            value = records[best][key]
            accuracy.annotate(
                f"{value:.2f}",
                (epochs[best], value),
                textcoords="offset points",
                xytext=(0, -13),
                ha="center",
                color=_VAL,
            )
        loss.set_ylim(bottom=0)
        rate.set_ylim(bottom=0)
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        for axes in (loss, accuracy):
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
