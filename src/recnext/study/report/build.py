"""Puts the page together."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from recnext._version import __version__
from recnext.checkpoints import load
from recnext.data.sources import is_local
from recnext.engine.devices import choose_device
from recnext.engine.settings import require
from recnext.errors import RecNextError
from recnext.sizes import MOST_WORKERS
from recnext.tasks.classification.data import open_for, preparation_of

from .charts import legend, line_chart, reliability_diagram
from .measuring import (
    FieldPicture,
    Measured,
    Shown,
    Speed,
    confusion_picture,
    confusions,
    measure_classifier,
    measure_field,
    measure_speed,
)
from .run_files import RunFiles, curves, read_run

_TABLE_CLASSES = 20  # a confusion matrix of more classes becomes a picture
_ROWS = 20  # of the per-class table that are not folded away
_CONFUSIONS = 10

Progress = Callable[[str, int, Optional[int]], None]
"""Told what is done, how many images more are, and of how many at the start."""


@dataclass(frozen=True)
class ClassRow:
    """A class in the per-class table; shares are None where there is nothing to share."""

    name: str
    images: int
    recall: Optional[float]
    precision: Optional[float]
    confused_with: str


@dataclass(frozen=True)
class _Findings:
    measured: Optional[Measured] = None
    speeds: tuple[Speed, ...] = ()
    field: Optional[FieldPicture] = None
    data: str = ""
    note: str = ""
    """Why something was not measured."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What is measured for a page.

    Args:
        data: images to evaluate on; by default those of the run.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images at once.
        workers: processes that load images.
        mistakes: shown at most.
        erf_images: for the effective receptive field; 0 leaves it out.
    """

    data: Optional[str] = None
    device: str = "auto"
    batch_size: int = 64
    workers: int = 2
    mistakes: int = 24
    erf_images: int = 16

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "mistakes", "erf_images"):
            least = int(name == "batch_size")
            require(self, name, getattr(self, name) >= least, f"an integer from {least}")
        require(self, "workers", self.workers <= MOST_WORKERS, f"{MOST_WORKERS} at most")


def build_report(run: Path, *, on_progress: Progress = lambda what, done, total: None, **settings: Any) -> str:
    """A self-contained HTML page about a run: nothing in it is loaded from elsewhere, and no script runs.

    Args:
        run: folder of `recnext train`.
        on_progress: told how far it is.
        **settings: of `ReportSettings`.

    Raises:
        RecNextError: there is no run, or the `data` given cannot be evaluated on. What cannot be measured for want
            of weights or of the run's own data is left out, and the page says why.
        UnreadableImageError: an image cannot be read.
    """
    chosen = ReportSettings(**settings)
    device = choose_device(chosen.device)
    files = read_run(run)
    try:
        found = _measured(files, chosen, device, on_progress)
    except _NotMeasuredError as error:
        if chosen.data is not None:
            raise RecNextError(str(error)) from None
        found = _Findings(note=str(error))
    return _page(files, found)


class _NotMeasuredError(RecNextError):
    """A part of the page has to be left out."""


def _measured(files: RunFiles, settings: ReportSettings, device: torch.device, on_progress: Progress) -> _Findings:
    if files.job.name != "classification":
        raise _NotMeasuredError("this is no run of a classifier, so no images were classified for this page")
    try:
        network = load(checkpoint=files.folder, device=device)
        preparation = preparation_of(network)
    except RecNextError as error:
        raise _NotMeasuredError(f"nothing was measured for this page: {error}") from None
    images, source = _open(files, network, settings.data)
    shown = Shown(network, images, preparation, device)
    on_progress("evaluating", 0, len(images))
    measured = measure_classifier(
        shown,
        batch_size=settings.batch_size,
        workers=settings.workers,
        mistakes=settings.mistakes,
        on_batch=lambda done: on_progress("evaluating", done, None),
    )
    found = _Findings(measured=measured, speeds=tuple(measure_speed(shown)), data=source)
    if settings.erf_images:
        on_progress("receptive field", 0, settings.erf_images)
        count = settings.erf_images
        field = measure_field(shown, count, on_batch=lambda done: on_progress("receptive field", done, None))
        found = replace(found, field=field)
    return found


def _open(files: RunFiles, network: Any, data: Optional[str]) -> tuple[Any, str]:
    """The images, and where they are: as given, as the run says, or beside the run as `recnext demo` leaves them."""
    candidates = [data] if data is not None else [str(files.config.get("data")), str(files.folder / "data")]
    reasons = []
    for place in candidates:
        try:
            if data is None and not is_local(place):
                raise RecNextError(f"the run's config.yaml names {place}, which is fetched only where you ask for it")
            return open_for(network, place, checkpoint=str(files.folder)), place
        except RecNextError as error:
            reasons.append(str(error))
    raise _NotMeasuredError(f"no images were classified for this page; --data names them: {reasons[0]}")


def _page(files: RunFiles, found: _Findings) -> str:
    environment = Environment(
        loader=PackageLoader("recnext.study.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
    unit, charts = curves(files.records, files.job.metrics)
    measured = found.measured
    return environment.get_template("report.html").render(
        files=files,
        found=found,
        measured=measured,
        title=f"{files.settings.get('model', 'model')} on {files.config.get('data', 'its data')}",
        facts=_facts(files, found),
        unit=unit,
        charts=[
            (
                chart,
                line_chart(chart.lines, title=chart.title, x_label=unit, from_zero=chart.from_zero),
                legend(chart.lines),
            )
            for chart in charts
        ],
        classes=class_rows(measured) if measured else [],
        rows=_ROWS,
        matrix=_matrix(measured) if measured else None,
        picture=confusion_picture(measured.accuracy.confusion) if measured else "",
        confusions=confusions(measured.accuracy.confusion, measured.class_names, most=_CONFUSIONS) if measured else [],
        reliability=reliability_diagram(measured.bars, title="Accuracy by confidence") if measured else "",
        threads=torch.get_num_threads(),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )


def _facts(files: RunFiles, found: _Findings) -> list[tuple[str, str]]:
    """What stands at the top: name and value."""
    facts = []
    if found.measured is not None:
        accuracy = found.measured.accuracy
        facts += [
            ("top-1", f"{accuracy.top1:.2f} %"),
            ("top-5", f"{accuracy.top5:.2f} %"),
            ("loss", f"{accuracy.loss:.4f}"),
            ("calibration error", f"{accuracy.ece:.2f} %"),
            ("images classified", f"{accuracy.images:,}"),
        ]
    else:
        for metric in files.job.metrics:
            best = metric.best(files.records).get(metric.key)
            if best is not None:
                facts.append((f"best {metric.title}", f"{best:.2f} {metric.unit}"))
    records, config = files.records, files.config
    seconds = sum(record.get("seconds", 0.0) for record in records)
    speed = [record["images_per_second"] for record in records]
    facts += [
        ("epochs", str(records[-1]["epoch"] + 1)),
        ("trained for", _duration(seconds)),
        ("training speed", f"{sum(speed) / len(speed):,.0f} images/s"),
    ]
    memory = [record["peak_memory_mib"] for record in records if record.get("peak_memory_mib")]
    if memory:
        facts.append(("peak memory", f"{max(memory):,.0f} MiB"))
    if "parameters" in config:
        facts.append(("parameters", f"{config['parameters'] / 1e6:.2f} M"))
    if "train_images" in config:
        facts.append(("training images", f"{config['train_images']:,}"))
    return facts


def class_rows(measured: Measured) -> list[ClassRow]:
    """A row a class, the lowest recall first; classes without images last."""
    confusion: Tensor = measured.accuracy.confusion
    totals, answers, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    wrong = confusion.clone()
    wrong.fill_diagonal_(0)
    rows = []
    for label, name in enumerate(measured.class_names):
        images, answered, correct = int(totals[label]), int(answers[label]), int(right[label])
        most, other = wrong[label].max(0)
        rows.append(
            ClassRow(
                name=name,
                images=images,
                recall=correct / images if images else None,
                precision=correct / answered if answered else None,
                confused_with=f"{measured.class_names[int(other)]} ({int(most)})" if most > 0 else "",
            )
        )
    return sorted(rows, key=lambda row: math.inf if row.recall is None else row.recall)


def _matrix(measured: Measured) -> Optional[list[tuple[str, list[tuple[int, str]]]]]:
    """Rows of (count, how to paint it), or None where there are too many classes for a table."""
    if len(measured.class_names) > _TABLE_CLASSES:
        return None
    confusion = measured.accuracy.confusion
    rows = []
    for label, name in enumerate(measured.class_names):
        total = max(int(confusion[label].sum()), 1)
        cells = []
        for column, value in enumerate(confusion[label].tolist()):
            kind = "right" if column == label else ("none" if value == 0 else "few" if value / total < 0.05 else "many")
            cells.append((value, kind))
        rows.append((name, cells))
    return rows


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
