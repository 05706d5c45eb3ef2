"""What a run folder tells, without running anything."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recnext.engine.job import EMA, Job, Metric
from recnext.engine.run_folder import Record, RunFolder, read_records
from recnext.errors import RecNextError
from recnext.tasks import job_of_run

from .charts import Line

_NOT_PLOTTED = {"epoch", "step", "seconds", "unreadable", "peak_memory_mib"}
_OTHERS = 6  # further metrics that get a chart


@dataclass(frozen=True)
class RunFiles:
    """The files of a run."""

    folder: Path
    config: dict[str, Any]
    records: list[Record]
    measurements: list[dict[str, Any]]
    """Every result.json of `recnext eval --output` in the folder, with its place under "file"."""

    @property
    def settings(self) -> dict[str, Any]:
        """Of the run."""
        return self.config.get("settings", {})

    @property
    def job(self) -> Job:
        """What was trained."""
        return job_of_run(self.config, self.records)

    @property
    def recipe(self) -> str:
        """The settings as YAML, defaults filled in."""
        return yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Chart:
    """Lines that share an axis."""

    title: str
    lines: list[Line]
    from_zero: bool


def read_run(folder: Path) -> RunFiles:
    """Reads a run folder.

    Raises:
        RecNextError: it holds no run, or no epoch is done yet.
    """
    if not folder.is_dir():
        raise RecNextError(f"{folder} is no folder: expected a run folder of 'recnext train'")
    config = RunFolder(folder, writer=False).read_config()
    if not config:
        raise RecNextError(f"{folder} holds no config.yaml: expected a run folder of 'recnext train'")
    return RunFiles(folder, config, read_records(folder), _measurements(folder))


def curves(records: list[Record], metrics: Sequence[Metric]) -> tuple[str, list[Chart]]:
    """Unit of the horizontal axis, and the charts of all metrics that were recorded."""
    epochs = [record["epoch"] + 1 for record in records]
    unit = "epoch" if len(set(epochs)) == len(epochs) else "step"
    places = epochs if unit == "epoch" else [record["step"] for record in records]
    wanted = _charts(metrics)
    plotted = {key for _, keys, _ in wanted for key, _ in keys} | _NOT_PLOTTED
    numbers = {key for record in records for key, value in record.items() if isinstance(value, (int, float))}
    others = sorted(numbers - plotted - {EMA + metric.key for metric in metrics})
    wanted += [(key.replace("_", " "), [(key, key)], False) for key in others[:_OTHERS]]
    charts = []
    for title, keys, from_zero in wanted:
        lines = [Line(name, places, [_value(record.get(key)) for record in records]) for key, name in keys]
        lines = [line for line in lines if any(map(math.isfinite, line.y))]
        if lines:
            charts.append(Chart(title, lines, from_zero))
    return unit, charts


def _charts(metrics: Sequence[Metric]) -> list[tuple[str, list[tuple[str, str]], bool]]:
    """Title, (key, name) of the lines, whether the axis begins at 0."""
    first = metrics[0]
    measured = [(metric.key, metric.title) for metric in metrics if metric.unit == first.unit]
    losses = [(metric.key, metric.title) for metric in metrics if metric.unit != first.unit]
    return [
        ("Loss", [("train_loss", "training"), *losses], True),
        (f"Validation, {first.unit}", [*measured, (EMA + first.key, f"{first.title}, averaged weights")], False),
        ("Learning rate", [("lr", "learning rate")], True),
        ("Training speed, images per second", [("images_per_second", "images per second")], True),
    ]


def _value(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _measurements(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.rglob("result.json")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # another program's, or being written
        if isinstance(facts, dict) and {"checkpoint", "data"} <= facts.keys():
            found.append({**facts, "file": str(path.relative_to(folder))})
    return found
