"""`recnext plot`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from rich.table import Table

from recnext.checkpoints.published import published as published_results
from recnext.engine.curves import draw_overlay
from recnext.engine.job import EMA, Metric
from recnext.engine.run_folder import Record, RunFolder, read_records
from recnext.errors import RecNextError
from recnext.files import require_output
from recnext.screen import Screen
from recnext.tasks import job_of_run

from .shared import make_table, print_json

_SUFFIXES = (".png", ".pdf", ".svg")
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
    """Draws the curves of one or more runs over each other and tells where each stands.

    Args:
        runs: run folders, or their metrics.jsonl.
        published: a network whose published final accuracy is drawn too, such as recnext_m1.
        metric: of the records; by default the one that picks the best epoch.
        output: of the picture: png, pdf or svg.
        json: print JSON instead of a table.
        overwrite: replace files that this command did not write.
    """
    if output.suffix not in _SUFFIXES:
        raise RecNextError(f"--output is {output}: expected a name ending in {', '.join(_SUFFIXES)}")
    require_output(output, overwrite=overwrite)
    records = {_name(run, runs): read_records(Path(run)) for run in runs}
    measure = _metric(runs[0], metric, records[_name(runs[0], runs)])
    metric = measure.key
    lacking = next((name for name, each in records.items() if metric not in each[0]), None)
    if lacking is not None:
        known = sorted(key for key, value in next(iter(records.values()))[0].items() if isinstance(value, float))
        raise RecNextError(f"{lacking} has no metric {metric!r}: give --metric, one of {', '.join(known)}")
    lines = {} if published is None else _published(published, metric)
    draw_overlay(output, records, metric=metric, published=lines)
    rows = [_row(name, each, measure) for name, each in records.items()]
    if json:
        print_json({"metric": metric, "runs": rows, "published": lines, "picture": str(output)})
        return 0
    screen = Screen()
    screen.print(_table(rows, metric))
    for name, value in lines.items():
        screen.print(f"{name}: {value}")
    screen.print(f"curves: {output}")
    return 0


def _metric(run: str, key: Optional[str], records: Sequence[Record]) -> Metric:
    """The metric of that key, or the one that picks the best epoch of the run's task."""
    folder = Path(run).parent if Path(run).suffix == ".jsonl" else Path(run)
    metrics = job_of_run(RunFolder(folder, writer=False).read_config(), records).metrics
    known = {
        prefix + metric.key: replace(metric, key=prefix + metric.key) for prefix in ("", EMA) for metric in metrics
    }
    return metrics[0] if key is None else known.get(key, Metric(key, key, higher="loss" not in key))


def _name(run: str, runs: Sequence[str]) -> str:
    """The last part of the path that tells the runs apart."""
    folders = {one: Path(one).parent if Path(one).suffix == ".jsonl" else Path(one) for one in runs}
    names = [folder.name for folder in folders.values()]
    return folders[run].name if names.count(folders[run].name) == 1 else str(folders[run])


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
        "train_loss": last["train_loss"],
        "images_per_second": sum(record["images_per_second"] for record in records) / len(records),
    }


def _table(rows: Sequence[dict[str, Any]], metric: str) -> Table:
    table = make_table("run", "epochs", "steps", f"best {metric}", "in epoch", "last", "train loss", "img/s")
    for row in rows:
        table.add_row(
            *(row["run"], str(row["epochs"]), str(row["steps"]), f"{row['best']:.2f}", str(row["best_epoch"])),
            *(f"{row['last']:.2f}", f"{row['train_loss']:.4f}", f"{row['images_per_second']:.0f}"),
        )
    return table
