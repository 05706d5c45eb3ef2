"""`recnext plot`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, Optional

from rich.table import Table

from recnext.checkpoints.published import published as published_results
from recnext.engine.curves import draw_overlay
from recnext.engine.job import EMA, Metric
from recnext.engine.run_folder import Record, RunFolder
from recnext.errors import RecNextError
from recnext.files import require_output
from recnext.screen import Screen
from recnext.study.published_logs import read_log
from recnext.tasks import job_of_run

from .shared import make_table, print_json

_SUFFIXES = (".png", ".pdf", ".svg")
_EPOCHS = 12  # rows shown; --json has all
_KINDS = {"top1_base": "published", "top1_distilled": "published, distilled"}


def run(
    runs: list[str],
    *,
    published: Optional[str] = None,
    metric: Optional[str] = None,
    output: Path = Path("curves.png"),
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """Draws the curves of one or more runs over each other and tells where each stands, epoch by epoch.

    Args:
        runs: run folders, or their metrics.jsonl; or logs as published for RecNeXt, its detectors and segmenters.
        published: a network whose published final accuracy is drawn too, such as recnext_m1.
        metric: of the records; by default the one that picks the best epoch.
        output: of the picture: png, pdf or svg.
        json: print JSON instead of a table.
        overwrite: replace files that this command did not write.
    """
    if output.suffix not in _SUFFIXES:
        raise RecNextError(f"--output is {output}: expected a name ending in {', '.join(_SUFFIXES)}")
    require_output(output, overwrite=overwrite)
    records = {_name(run, runs): read_log(Path(run)) for run in runs}
    measure = _metric(runs[0], metric, records[_name(runs[0], runs)])
    metric = measure.key
    lacking = next((name for name, each in records.items() if metric not in each[0]), None)
    if lacking is not None:
        known = sorted(key for key, value in next(iter(records.values()))[0].items() if isinstance(value, float))
        raise RecNextError(f"{lacking} has no metric {metric!r}: give --metric, one of {', '.join(known)}")
    lines = {} if published is None else _published(published, metric)
    draw_overlay(output, records, metric=measure, published=lines)
    rows, epochs = [_row(name, each, measure) for name, each in records.items()], _by_epoch(records, metric)
    if json:
        print_json({"metric": metric, "runs": rows, "epochs": epochs, "published": lines, "picture": str(output)})
        return 0
    screen = Screen()
    screen.print(_table(rows, measure.title))
    if epochs:
        screen.print(_epoch_table(epochs, measure.title))
    for name, value in lines.items():
        screen.print(f"{name}: {value}")
    screen.print(f"curves: {output}")
    return 0


def _metric(run: str, key: Optional[str], records: Sequence[Record]) -> Metric:
    """The metric of that key, or the one that picks the best epoch of the run's task."""
    config = {} if _is_log(run) else RunFolder(_folder(run), writer=False).read_config()
    metrics = job_of_run(config, records).metrics
    known = {metric.key: metric for metric in metrics}
    for metric in metrics:
        averaged = replace(metric, key=EMA + metric.key, title=f"{metric.title}, averaged weights")
        known[averaged.key] = averaged
    return metrics[0] if key is None else known.get(key, Metric(key, key, higher="loss" not in key))


def _is_log(run: str) -> bool:
    return Path(run).is_file() and Path(run).suffix != ".jsonl"


def _folder(run: str) -> Path:
    """What a run is named after: its folder, or the log of another program."""
    return Path(run).parent if Path(run).suffix == ".jsonl" else Path(run)


def _name(run: str, runs: Sequence[str]) -> str:
    """The last part of the path that tells the runs apart."""
    names = [_folder(one).name for one in runs]
    return _folder(run).name if names.count(_folder(run).name) == 1 else str(_folder(run))


def _published(network: str, metric: str) -> dict[str, float]:
    results = published_results()["classification"]
    if network not in results:
        raise RecNextError(f"nothing is published for {network!r}: expected one of {', '.join(results)}")
    if not metric.endswith("top1"):
        raise RecNextError(f"--published draws top-1, the metric is {metric}: leave one of them out")
    return {f"{network}, {kind}": results[network][key] for key, kind in _KINDS.items() if key in results[network]}


def _row(name: str, records: Sequence[dict[str, Any]], measure: Metric) -> dict[str, Any]:
    metric = measure.key
    best, last = measure.best(records), records[-1]
    return {
        "run": name,
        "epochs": last["epoch"] + 1,
        "steps": last["step"],
        "best": best[metric],
        "best_epoch": best["epoch"] + 1,
        "last": last[metric],
        "train_loss": last.get("train_loss", math.nan),
        "images_per_second": fmean(record.get("images_per_second", math.nan) for record in records),
    }


def _table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    table = make_table("run", "epochs", "steps", f"best {title}", "in epoch", "last", "train loss", "img/s")
    for row in rows:
        table.add_row(
            *(row["run"], str(row["epochs"]), _number(row["steps"], 0), _number(row["best"], 2)),
            *(str(row["best_epoch"]), _number(row["last"], 2), _number(row["train_loss"], 4)),
            _number(row["images_per_second"], 0),
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _by_epoch(records: Mapping[str, Sequence[Record]], metric: str) -> list[dict[str, Any]]:
    """Every run's last value of the metric in each epoch that several runs have."""
    values = {name: {record["epoch"] + 1: record[metric] for record in each} for name, each in records.items()}
    shared = [epoch for epoch, runs in Counter(chain(*values.values())).items() if runs > 1]
    return [{"epoch": epoch, **{name: one.get(epoch) for name, one in values.items()}} for epoch in sorted(shared)]


def _epoch_table(rows: Sequence[dict[str, Any]], measured: str) -> Table:
    names = [name for name in rows[0] if name != "epoch"]
    table = make_table("epoch", *names, text=0, title=f"{measured} at the end of an epoch")
    step = -(-len(rows) // _EPOCHS)
    for row in (*rows[:-1:step], rows[-1]):
        table.add_row(*(str(row["epoch"]), *("-" if row[name] is None else _number(row[name], 2) for name in names)))
    return table
