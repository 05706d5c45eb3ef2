import json

import pytest

from cli.command import fails, run, run_json

RECORD = {"lr": 0.001, "val_loss": 2.0, "top5": 90.0, "images_per_second": 10.0, "seconds": 1.0}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, best in (("a", 70.0), ("b", 72.5)):
        folder = tmp_path / name
        folder.mkdir()
        records = [
            {**RECORD, "epoch": epoch, "step": 10 * (epoch + 1), "train_loss": 3.0 - epoch, "top1": top1}
            for epoch, top1 in enumerate((50.0, best, best - 1))
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def test_runs_and_published_accuracy_in_one_picture(runs, capsys):
    output = runs / "both.png"
    result = run_json(capsys, "plot", runs / "a", runs / "b", "--published=recnext_m1", f"--output={output}")
    assert output.read_bytes().startswith(b"\x89PNG")
    assert result["published"] == {"recnext_m1, published": 78.0, "recnext_m1, published, distilled": 79.2}
    assert [(row["run"], row["best"], row["best_epoch"], row["last"], row["steps"]) for row in result["runs"]] == [
        ("a", 70.0, 2, 69.0, 30),
        ("b", 72.5, 2, 71.5, 30),
    ]


def test_table(runs, capsys):
    status, out, _ = run(capsys, "plot", runs / "a" / "metrics.jsonl", f"--output={runs / 'a.svg'}")
    assert status == 0
    assert "70.00" in out
    assert f"curves: {runs / 'a.svg'}" in out
    assert (runs / "a.svg").read_text().startswith("<?xml")


def test_what_is_drawn(runs, monkeypatch):
    """Curves at their epochs, published values as level lines."""
    from contextlib import contextmanager

    from matplotlib.figure import Figure

    from recnext.engine import curves as plots
    from recnext.engine.job import Metric
    from recnext.engine.run_folder import read_records

    figures = []

    @contextmanager
    def kept(*_):
        figures.append(Figure())
        yield figures[-1]

    monkeypatch.setattr(plots, "figure", kept)
    plots.draw_overlay(
        runs, {"a": read_records(runs / "a")}, metric=Metric("top1", "top-1"), published={"recnext_m1": 78.0}
    )
    curve, line = figures[0].axes[0].lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([1, 2, 3], [50.0, 70.0, 69.0])
    assert list(line.get_ydata()) == [78.0, 78.0]


def test_mistakes_are_one_line(runs, capsys):
    assert "none/metrics.jsonl" in fails(capsys, "plot", runs / "none" / "metrics.jsonl")
    assert "holds no records" in fails(capsys, "plot", _file(runs / "a", "{}\n"))
    assert "is not JSON" in fails(capsys, "plot", _file(runs / "a", "{\n"))
    assert "nothing is published for 'resnet50'" in fails(capsys, "plot", runs / "b", "--published=resnet50")
    assert "has no metric 'miou': give --metric, one of" in fails(capsys, "plot", runs / "b", "--metric=miou")
    assert "--output is a.docx: expected" in fails(capsys, "plot", runs / "b", "--output=a.docx")
    message = fails(capsys, "plot", runs / "b", "--metric=val_loss", "--published=recnext_m1")
    assert "--published draws top-1, the metric is val_loss" in message


def _file(folder, text):
    path = folder / "metrics.jsonl"
    path.write_text(text)
    return path
