"""The curves of a run, or of several. They need matplotlib (the `plots` extra)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .figures import figure
from .run_folder import Record

_TRAIN, _VAL, _EMA = "#7f8c8d", "#1f5fa8", "#d35400"
_MONITORED = {"top1", "miou", "box_ap"}  # their best value is written beside it


def draw_curves(path: Path, records: Sequence[Record]) -> None:
    """Draws loss, accuracy and learning rate over epochs; over steps where several records fall into one epoch.

    Args:
        path: of the PNG.
        records: lines of ``metrics.jsonl``, at least one.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    unit = _unit([records])
    epochs = _places(records, unit)
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
            (accuracy, "mask_ap", "mask AP", _TRAIN),
            (accuracy, "box_ap50", "box AP50", _EMA),
            (accuracy, "box_ap", "box AP", _VAL),
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


def draw_overlay(
    path: Path, runs: Mapping[str, Sequence[Record]], *, metric: str, published: Mapping[str, float]
) -> None:
    """Draws a metric and the training loss of several runs, and published values of the metric as lines.

    Args:
        path: of the picture; the suffix tells its format.
        runs: records by name, each with one at least.
        metric: key of the records.
        published: values by name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    unit = _unit(list(runs.values()))
    with figure(path, 10, 4) as drawing:
        left, right = drawing.subplots(1, 2)
        for axes, key in ((left, metric), (right, "train_loss")):
            axes.set_title(key.replace("_", " "))
            axes.set_xlabel(unit)
            axes.grid(alpha=0.25)
            axes.xaxis.get_major_locator().set_params(integer=True)
            for name, records in runs.items():
                shown = [record for record in records if key in record]
                values, marker = [record[key] for record in shown], "o" if len(shown) == 1 else ""
                axes.plot(_places(shown, unit), values, label=name, linewidth=1.5, marker=marker, markersize=4)
                averaged = f"ema_{key}"
                if averaged in records[0]:
                    color = axes.lines[-1].get_color()
                    values = [record[averaged] for record in records]
                    style = {"color": color, "linestyle": ":", "marker": marker and "x"}
                    axes.plot(_places(records, unit), values, label=f"{name}, averaged", **style)
        for name, value in published.items():
            side = "bottom" if value == max(published.values()) else "top"  # two lines may be close
            left.axhline(value, color=_TRAIN, linestyle="--", linewidth=1)
            left.annotate(f"{name} {value}", (0.01, value), xycoords=("axes fraction", "data"), va=side, fontsize=8)
        for axes in (left, right):
            axes.legend(fontsize=8)


def _unit(runs: Sequence[Sequence[Record]]) -> str:
    """What to count in: steps where several records of a run fall into one epoch."""
    return "step" if any(len({record["epoch"] for record in records}) < len(records) for records in runs) else "epoch"


def _places(records: Sequence[Record], unit: str) -> list[int]:
    return [record["step"] if unit == "step" else record["epoch"] + 1 for record in records]
