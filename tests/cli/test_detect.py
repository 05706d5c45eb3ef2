import json
import os
import shlex
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from cli.command import fails, run, run_json
from recnext.checkpoints.metadata import save_checkpoint
from recnext.cli.detect import next_commands
from recnext.data.video import VideoReader, VideoWriter
from recnext.study.demo.shapes import CLASS_NAMES
from recnext.tasks.detection.checkpoint import describe
from recnext.tasks.detection.evaluation import published_ap
from recnext.tasks.detection.metrics import COCO_METRICS
from tasks.detection.detectors import tiny
from tasks.detection.runs import edit, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A detector that is sure of what it cannot know."""
    model = tiny(num_classes=5, class_names=CLASS_NAMES, category_ids=(2, 5, 8, 11, 14), anchor_scale=4.0)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[1] = 3.0
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, model.state_dict(), describe(model))
    return path


def test_train_leaves_a_run(data, tmp_path, capsys):
    folder = tmp_path / "run"
    small = ("--channels=8", "--box-features=16", "--mask-layers=1", "--proposals=20", "--roi-samples=16")
    settings = (
        "--model",
        "test_recnext_m",
        "--image-size",
        48,
        *small,
        "--batch-size",
        4,
        "--workers",
        0,
        "--no-curves",
    )
    command = ("detect", "train", data, *settings, "--device", "cpu", "--no-curves", "--output", folder)
    status, out, err = run(capsys, *command, "--epochs", 1)
    assert status == 0, err
    assert "Mask R-CNN on test_recnext_m from scratch" in out
    assert "images without objects: left out" in out
    assert "(0.0002 * batch / 16)" in out
    assert "best box AP" in out
    assert (folder / "best.safetensors").is_file()
    status, out, err = run(capsys, "detect", "train", data, "--output", folder, "--resume", "--epochs", 2)
    assert status == 0, err
    assert "extended from 1 to 2 epochs" in out
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    message = fails(capsys, "detect", "train", data, "--output", folder, "--resume", "--channels", 16)
    assert "--channels 16 differs from the 8 this run was started with" in message
    message = fails(capsys, "detect", "train", data, "--output", folder, "--resume", "--channels", 256)  # the default
    assert "--channels 256 differs from the 8 this run was started with" in message


def test_eval_shows_coco_numbers(data, checkpoint, tmp_path, capsys):
    arguments = ("detect", "eval", data, "--checkpoint", checkpoint, "--workers", 0, "--device", "cpu")
    facts = run_json(capsys, *arguments, "--output", tmp_path)
    assert facts["images"] == 5
    assert {metric.key for metric in COCO_METRICS} <= facts.keys()
    assert facts["box_ap_large"] is None
    detections = json.loads((tmp_path / "detections.json").read_text())
    assert detections[0]["category_id"] == 2
    assert detections[0]["segmentation"]["size"] == [48, 64]
    assert (tmp_path / "per_class.csv").read_text().startswith("class,box_ap,box_ap50,mask_ap,mask_ap50\ndisc,")
    status, out, _ = run(capsys, *arguments, "--no-masks")
    assert status == 0
    assert "box AP75" in out
    assert "mask" not in out


def test_eval_names_what_does_not_fit(data, checkpoint, tmp_path, capsys):
    other = write_data(tmp_path / "other")
    edit(other, "val", lambda content: content["categories"].append({"id": 99, "name": "star"}))
    message = fails(capsys, "detect", "eval", other, "--checkpoint", checkpoint)
    assert "knows 5 classes" in message
    assert "has 6" in message
    renamed = write_data(tmp_path / "renamed")
    edit(renamed, "val", lambda content: content["categories"][1].update(name="star"))
    assert "was trained on other classes" in fails(capsys, "detect", "eval", renamed, "--checkpoint", checkpoint)
    assert "is no folder" in fails(
        capsys, "detect", "eval", tmp_path / "x", "--checkpoint", checkpoint, "--annotations", "a.json"
    )


def test_published_numbers_stand_beside_those_of_coco():
    assert published_ap("recnext_m3", classes=80)["box_ap"] == "41.7 %"
    assert published_ap("recnext_m3", classes=5) == {}
    assert published_ap("resnet50", classes=80) == {}


def test_predict_draws_and_lists(data, checkpoint, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("detect", "predict", data / "val", "--checkpoint", checkpoint, "--threshold", 0.3, "--output", output)
    status, out, _ = run(capsys, *arguments, "--device", "cpu")
    assert status == 0
    assert "000001.jpg: disc 0." in out
    with Image.open(output / "000001.png") as drawn, Image.open(data / "val" / "000001.jpg") as image:
        assert drawn.size == (5 * image.width, 5 * image.height)
        assert np.asarray(drawn.resize(image.size, Image.Resampling.NEAREST)).std() > 0
    records = json.loads((output / "detections.json").read_text())
    assert {record["category"] for record in records} == {"disc"}
    assert all(record["score"] >= 0.3 for record in records)
    assert set(records[0]) == {"image_id", "file_name", "category", "category_id", "bbox", "score", "segmentation"}


def test_predict_draws_videos(checkpoint, tmp_path, capsys):
    pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "film.mp4", rate=Fraction(5)) as video:
        for frame in frames:
            video.write(frame)
    status, out, _ = run(
        capsys,
        *("detect", "predict", tmp_path / "film.mp4", "--checkpoint", checkpoint),
        *("--output", tmp_path / "out", "--threshold", 0.3),
    )
    assert status == 0
    assert "3 frames in" in out
    records = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {record["frame"] for record in records} == {1, 2, 3}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []
    with VideoReader(tmp_path / "out" / "film.mp4") as drawn:
        assert [frame.shape for frame in drawn] == [(256, 256, 3)] * 3


def test_predict_goes_on_after_a_broken_video(data, checkpoint, tmp_path, capsys):
    pytest.importorskip("av")
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    output = tmp_path / "out"
    names = (data / "val" / "000001.jpg", tmp_path / "torn.mp4")
    status, _, err = run(
        capsys, "detect", "predict", *names, "--checkpoint", checkpoint, "--output", output, "--threshold", 0.3
    )
    assert status == 1
    assert "1 drawn, in " in err
    assert "torn.mp4 is no video that can be read" in err
    assert json.loads((output / "detections.json").read_text())


def test_mistakes_are_one_line(data, checkpoint, tmp_path, capsys):
    assert "expected a score from 0 to 1" in fails(
        capsys, "detect", "predict", data / "val", "--checkpoint", checkpoint, "--threshold", 2
    )
    assert "--max-size is 400" in fails(capsys, "detect", "train", data, "--max-size", 400)
    assert "is a detector (recnext detect), not a classifier" in fails(capsys, "info", checkpoint)
    assert "is a detector (recnext detect), not a classifier" in fails(
        capsys, "predict", data / "val", "--checkpoint", checkpoint
    )
    image = data / "val" / "000001.jpg"
    assert "there is no file none.mp4" in fails(
        capsys, "detect", "predict", image, "none.mp4", "--checkpoint", checkpoint
    )
    assert "has no annotations of train" in fails(capsys, "detect", "train", tmp_path)
    edit_me = write_data(tmp_path / "bad")
    edit(edit_me, "train", lambda content: content["annotations"][3].update(category_id=77))
    assert "annotations[3] (id 4): category_id 77 is unknown" in fails(capsys, "detect", "train", edit_me)


def in_a_process(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "recnext", "detect", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_short_demo_leaves_everything(tmp_path, capsys, monkeypatch):
    """The whole job, too short to learn much; the drawings are in `test_demo_reaches_the_promised_precision`."""
    monkeypatch.chdir(tmp_path)
    status, printed, err = run(capsys, "detect", "demo", "--steps", 2, "--images", 10)
    assert status == 0, err
    assert "held-out box AP50" in printed
    folder = tmp_path / "runs" / "detect_demo"
    for name in ("best.safetensors", "samples.png", "evaluation/per_class.csv", "data/val/000001.jpg"):
        assert (folder / name).is_file(), name
    status, _, err = run(capsys, "detect", "demo", "--steps", 2, "--images", 10)
    assert status == 0, err  # it replaces its own run
    for command in next_commands(folder.relative_to(tmp_path)):
        assert f"  {command}" in printed.splitlines()
        status, _, err = run(capsys, *shlex.split(command)[1:])
        assert status == 0, err
    (folder / "config.yaml").write_text("settings: {}\ndata: photos\n")
    assert "holds a run on photos" in fails(capsys, "detect", "demo")


@pytest.mark.slow
def test_demo_reaches_the_promised_precision(tmp_path):
    printed = in_a_process(tmp_path, "demo")
    folder = tmp_path / "runs" / "detect_demo"
    result = json.loads((folder / "evaluation" / "result.json").read_text())
    assert result["box_ap50"] >= 60
    assert result["fused"]["box_ap50"] == pytest.approx(result["box_ap50"], abs=1)
    assert f"{result['box_ap50']:.2f} %" in printed
    for name in ("samples", "curves"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 300
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  recnext detect")]
    assert commands == list(next_commands(folder.relative_to(tmp_path)))
    for command in commands:
        in_a_process(tmp_path, *shlex.split(command)[2:])
    assert (folder / "predictions" / "detections.json").is_file()
