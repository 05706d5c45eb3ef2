import json
import os
import subprocess
import sys

import pytest
import torch

from recnext.checkpoints.metadata import save_checkpoint
from recnext.engine.run import train
from recnext.engine.signals import StopRequest
from recnext.errors import RecNextError
from recnext.tasks.detection import load
from recnext.tasks.detection.batches import evaluation_loader
from recnext.tasks.detection.checkpoint import describe
from recnext.tasks.detection.data import open_split
from recnext.tasks.detection.evaluate import evaluate
from recnext.tasks.detection.job import DetectionJob
from recnext.tasks.detection.task import DetectionTask
from tasks.detection.runs import edit, settings, write_data


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr("recnext.engine.loop.can_draw", lambda: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def evaluated(folder, data):
    images = open_split(data, "val", masks=True)
    model = load(folder / "last.safetensors")
    return evaluate(
        model, evaluation_loader(images), file=images.file, masks=model.config.masks, device=torch.device("cpu")
    ).compute()


@pytest.mark.parametrize("masks", [True, False])
def test_a_run_leaves_what_is_needed(tmp_path, data, masks):
    result = train(DetectionJob(), settings(output=str(tmp_path), masks=masks), data=data)
    assert result.interrupted is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["task"] == "detection"
    assert set(summary["best"]) == {
        f"{kind}_{name}" for kind in (["box", "mask"] if masks else ["box"]) for name in ("ap", "ap50", "ap75")
    }
    model = load(tmp_path)
    assert model.config.masks == masks
    assert model.labels == ("disc", "square", "triangle", "ring", "cross")
    assert model.config.category_ids == (2, 5, 8, 11, 14)
    assert model.config.min_size == 48
    assert evaluated(tmp_path, data).summary() == pytest.approx({k: result.records[-1][k] for k in summary["best"]})


def test_a_stopped_run_goes_on_exactly(tmp_path, data, monkeypatch):
    run = {"batch_size": 2, "scale": (0.8, 1.2)}
    train(DetectionJob(), settings(output=str(tmp_path / "whole"), **run), data=data)
    steps = {"asked": 0}

    def stops(self):
        steps["asked"] += 1
        return steps["asked"] >= 2  # in mid-epoch

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__bool__", stops)
        stopped = train(DetectionJob(), settings(output=str(tmp_path / "stopped"), **run), data=data)
    assert stopped.interrupted is not None
    assert stopped.position == (0, 2)
    train(DetectionJob(), settings(output=str(tmp_path / "stopped"), resume=True, **run), data=data)
    whole, resumed = (load(tmp_path / name / "last.safetensors").state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    records = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "stopped")]
    for one, other in zip(*records, strict=True):
        assert json.loads(one)["train_loss"] == json.loads(other)["train_loss"]
        assert json.loads(one)["box_ap"] == json.loads(other)["box_ap"]


def test_starts_from_a_detector_of_other_classes(tmp_path, data):
    train(DetectionJob(), settings(output=str(tmp_path / "first"), epochs=1), data=data)
    start = load(tmp_path / "first", num_classes=80)
    save_checkpoint(tmp_path / "start.safetensors", start.state_dict(), describe(start))
    later = settings(output=str(tmp_path / "later"), epochs=1, checkpoint=str(tmp_path / "start.safetensors"), lr=1e-12)
    train(DetectionJob(), later, data=data)
    tuned = load(tmp_path / "later").state_dict()
    for key, value in start.state_dict().items():
        if "_predictor." not in key and "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(tuned[key], value, rtol=0, atol=1e-5)  # warm-up starts at 1e-6
    with pytest.raises(RecNextError, match=r"does not fit --channels"):
        train(
            DetectionJob(),
            settings(output=str(tmp_path / "x"), channels=16, checkpoint=str(tmp_path / "start.safetensors")),
            data=data,
        )


def test_a_loss_that_is_not_finite_stops_before_it_does_harm(tmp_path, data, monkeypatch):
    loss = DetectionTask.loss
    monkeypatch.setattr(DetectionTask, "loss", lambda *args, **rest: loss(*args, **rest) * float("nan"))
    with pytest.raises(RecNextError, match=r"the loss is nan in epoch 1, step 1: stopped before that step"):
        train(DetectionJob(), settings(output=str(tmp_path)), data=data)
    named = json.loads((tmp_path / "diverged.json").read_text())["batches"][0]["files"]
    assert len(named) == 4


def test_unreadable_images_are_replaced_and_counted(tmp_path):
    root = write_data(tmp_path / "data")
    (root / "train" / "000001.jpg").write_bytes(b"no image")
    with pytest.raises(RecNextError, match=r"training images are unreadable.*000001.jpg"):
        train(DetectionJob(), settings(output=str(tmp_path / "a"), max_unreadable=0.0, batch_size=2), data=root)
    result = train(DetectionJob(), settings(output=str(tmp_path / "b"), max_unreadable=0.5, batch_size=2), data=root)
    assert sum(record["unreadable"] for record in result.records) >= 1


def test_other_data_is_refused_on_resuming(tmp_path, data):
    train(DetectionJob(), settings(output=str(tmp_path / "run"), epochs=1), data=data)
    other = write_data(tmp_path / "other", train=14)
    with pytest.raises(RecNextError, match="was started on other data"):
        train(DetectionJob(), settings(output=str(tmp_path / "run"), epochs=2, resume=True), data=other)
    edit(other, "train", lambda content: content.update(annotations=[]))
    with pytest.raises(RecNextError, match="has no object to learn from"):
        train(DetectionJob(), settings(output=str(tmp_path / "none")), data=other)


@pytest.mark.slow
def test_two_processes_train_one_model_and_evaluate_each_image_once(tmp_path, data):
    folder = tmp_path / "run"
    small = ("--channels=8", "--box-features=16", "--mask-layers=1", "--anchor-scale=4", "--proposals=20")
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recnext"),
            *("detect", "train", str(data), "--model=test_recnext_m", "--image-size=48", "--epochs=2", *small),
            *("--batch-size=2", "--workers=0", "--device=cpu", "--lr=0.001", f"--output={folder}"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("epoch 2/2") == 1
    assert "2 processes" in launched.stdout
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    alone = evaluated(folder, data)
    assert alone.images == 5
    assert {key: last[key] for key in alone.summary()} == pytest.approx(alone.summary())
