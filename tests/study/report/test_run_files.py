import json

import pytest

from recnext.engine.job import Metric
from recnext.errors import RecNextError
from recnext.study.report.run_files import curves, read_run

RECORD = {"epoch": 0, "step": 9, "train_loss": 1.5, "images_per_second": 10.0, "lr": 0.1}


def write(folder, *records, config="settings: {model: test_recnext_m, epochs: 3}\ndata: photos\n"):
    (folder / "config.yaml").write_text(config)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_metrics_of_other_tasks_get_charts(tmp_path):
    write(
        tmp_path, RECORD, {**RECORD, "epoch": 1, "box_ap": 30.0, "boxes_seen": 3, "val_loss": float("nan"), "note": "x"}
    )
    run = read_run(tmp_path)
    unit, charts = curves(run.records, run.job.metrics)
    assert unit == "epoch"
    assert [chart.title for chart in charts] == [
        "Loss",
        "Validation, %",
        "Learning rate",
        "Training speed, images per second",
        "boxes seen",
    ]
    assert [line.name for line in charts[0].lines] == ["training"]
    assert run.settings == {"model": "test_recnext_m", "epochs": 3}
    assert "epochs: 3" in run.recipe


def test_several_records_an_epoch_are_drawn_by_step(tmp_path):
    write(tmp_path, RECORD, {**RECORD, "step": 18})
    unit, charts = curves(read_run(tmp_path).records, (Metric("top1", "top-1"),))
    assert (unit, charts[0].lines[0].x) == ("step", [9, 18])


def test_evaluations_in_the_folder_are_found(tmp_path):
    write(tmp_path, RECORD)
    for name, content in (("a", {"checkpoint": "x", "data": "sketch", "top1": 5}), ("b", {"other": 1}), ("c", None)):
        (tmp_path / name).mkdir()
        text = "{" if content is None else json.dumps(content)
        (tmp_path / name / "result.json").write_text(text)
    found = read_run(tmp_path).measurements
    assert [(facts["data"], facts["file"]) for facts in found] == [("sketch", "a/result.json")]


def test_what_is_no_run(tmp_path):
    with pytest.raises(RecNextError, match="is no folder"):
        read_run(tmp_path / "no")
    with pytest.raises(RecNextError, match=r"holds no config\.yaml"):
        read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("settings: {}\n")
    with pytest.raises(RecNextError, match=r"metrics\.jsonl does not exist"):
        read_run(tmp_path)
