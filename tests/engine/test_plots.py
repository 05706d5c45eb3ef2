"""What is drawn of a run: the metric that its task watches, whatever the task."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from recnext.engine import curves as plots
from recnext.tasks import job_of


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_curves_show_the_metrics_of_every_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    metrics = job_of(task).metrics
    first, *others = (metric for metric in metrics if metric.unit == "%")
    measured = {first.key: 60.0, **{metric.key: 90.0 for metric in others}, f"ema_{first.key}": 61.0}
    records = [{"epoch": e, "step": e + 1, "lr": 0.1, "train_loss": 1.0 / (e + 1), **measured} for e in range(3)]
    plots.draw_curves(tmp_path / "curves.png", records, metrics=metrics)
    axes = drawn[0].axes[1]
    titles = {metric.title for metric in (first, *others)}
    assert {line.get_label() for line in axes.lines} == titles | {f"{first.title}, averaged weights"}
    assert [text.get_text() for text in axes.texts] == ["60.00"]
    assert (tmp_path / "curves.png").is_file()


def test_one_epoch_is_seen_and_published_lines_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    record = {"epoch": 0, "step": 1, "train_loss": 1.0, "top1": 60.0, "ema_top1": 50.0}
    top1 = job_of("classification").metrics[0]
    plots.draw_overlay(tmp_path / "a.png", {"a": [record]}, metric=top1, published={"base": 78.0, "distilled": 79.2})
    accuracy = drawn[0].axes[0]
    assert accuracy.get_title(loc="left") == "top-1"
    assert [line.get_marker() for line in accuracy.lines[:2]] == ["o", "x"]
    assert [text.get_va() for text in accuracy.texts] == ["top", "bottom"]
