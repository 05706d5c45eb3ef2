"""The curves of a run, or of several. They need matplotlib (the `train` extra)."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import Any, Optional

from .figures import drawn, figure
from .job import EMA, Metric
from .run_folder import Record

_TRAIN, _VAL, _EMA = "#7f8c8d", "#1f5fa8", "#d35400"
_OTHERS = ("#17a589", "#8e44ad", "#b7950b", "#c0392b")  # of metrics other than the monitored one


def draw_curves(path: Path, records: Sequence[Record], *, metrics: Sequence[Metric]) -> None:
    """Draws loss, metrics and learning rate over epochs; over steps where several records fall into one epoch.

    Args:
        path: of the PNG.
        records: lines of ``metrics.jsonl``, at least one.
        metrics: of the run; those of the first one's unit share its picture, the others are losses.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    unit = _unit([records])
    epochs = _places(records, unit)
    marker = "o" if len(epochs) <= 30 else ""
    monitored = metrics[0]
    best = monitored.best(records)

    with figure(path, 10, 3.2) as drawing:
        loss, measure, rate = drawing.subplots(1, 3)
        for axes, title in ((loss, "loss"), (measure, f"validation, {monitored.unit}"), (rate, "learning rate")):
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.grid(alpha=0.25)
            axes.xaxis.get_major_locator().set_params(integer=True)
        lines: list[tuple[Any, str, str, Optional[str]]] = [
            (loss, "train_loss", "training", _TRAIN),
            (rate, "lr", "", _VAL),
        ]
        lines += [
            (measure if metric.unit == monitored.unit else loss, metric.key, metric.title, color)
            for metric, color in zip(metrics, chain((_VAL,), cycle(_OTHERS)), strict=False)
        ]
        lines.append((measure, EMA + monitored.key, f"{monitored.title}, averaged weights", _EMA))
        for axes, key, label, color in lines:
            if key in records[0]:
                values = [record[key] for record in records]
                axes.plot(epochs, values, marker=marker, markersize=3, color=color, label=label)
        measure.annotate(
            f"{best[monitored.key]:.2f}",
            (epochs[records.index(best)], best[monitored.key]),
            textcoords="offset points",
            xytext=(0, -13),
            ha="center",
            color=_VAL,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )
        loss.set_ylim(bottom=0)
        rate.set_ylim(bottom=0)
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        for axes in (loss, measure):
            axes.legend()


def draw_overlay(
    path: Path, runs: Mapping[str, Sequence[Record]], *, metric: Metric, published: Mapping[str, float]
) -> None:
    """Draws a metric and the training loss of several runs, and published values of the metric as lines.

    Args:
        path: of the picture; the suffix tells its format.
        runs: records by name, each with one at least.
        metric: of the records.
        published: values by name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    unit = _unit(list(runs.values()))
    with figure(path, 10, 4) as drawing:
        left, right = drawing.subplots(1, 2)
        for axes, key, title in ((left, metric.key, metric.title), (right, "train_loss", "training loss")):
            axes.set_title(title)
            axes.set_xlabel(unit)
            axes.grid(alpha=0.25)
            axes.xaxis.get_major_locator().set_params(integer=True)
            for name, records in runs.items():
                shown = [record for record in records if key in record]
                values, marker = [record[key] for record in shown], "o" if len(shown) == 1 else ""
                axes.plot(_places(shown, unit), values, label=drawn(name), linewidth=1.5, marker=marker, markersize=4)
                averaged = EMA + key
                if averaged in records[0]:
                    color = axes.lines[-1].get_color()
                    values = [record.get(averaged, math.nan) for record in records]
                    style = {"color": color, "linestyle": ":", "marker": marker and "x"}
                    axes.plot(_places(records, unit), values, label=f"{drawn(name)}, averaged", **style)
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
