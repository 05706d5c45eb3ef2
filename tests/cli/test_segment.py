import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli.command import fails, run, run_json
from recnext.cli.segment import next_commands
from recnext.tasks.segmentation import build
from recnext.tasks.segmentation.evaluation import published_miou
from tasks.segmentation.runs import write_data

TINY = (
    *("--model=test_recnext_m", "--neck-channels=8", "--head-channels=8", "--image-size=32", "--epochs=1"),
    *("--batch-size=4", "--lr=1e-3", "--workers=0", "--device=cpu", "--no-curves"),
)


@pytest.fixture(autouse=True)
def plain_output(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("shapes"), train=8, val=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """As published: keys and wrapper of MMSegmentation, random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / "iter_80000.pth"
    state = build("test_recnext_m", num_classes=6, neck_channels=8, head_channels=8).state_dict()
    torch.save({"meta": {"iter": 80000}, "state_dict": state, "optimizer": {}}, path)
    return path


def test_train_resume_eval(data, tmp_path, capsys):
    folder = tmp_path / "run"
    status, out, err = run(capsys, "segment", "train", data, *TINY, f"--output={folder}")
    assert status == 0, err
    assert "Semantic FPN on test_recnext_m from scratch" in out
    assert "loss over the pixels with a label" in out
    assert f"{folder / 'best.safetensors'}" in out
    status, out, err = run(capsys, "segment", "train", data, f"--output={folder}", "--resume", "--epochs=2")
    assert status == 0, err
    assert "extended from 1 to 2 epochs" in out
    message = fails(
        capsys, "segment", "train", data, f"--output={folder}", "--resume", "--neck-channels=256"
    )  # default
    assert "--neck-channels 256 differs from the 8 this run was started with" in message
    facts = run_json(capsys, "segment", "eval", data, "--checkpoint", folder, "--workers=0", "--device=cpu")
    assert facts["images"] == 3
    assert facts["image_size"] == 32
    best = json.loads((folder / "summary.json").read_text())["best"]
    assert facts["miou"] == pytest.approx(best["miou"], abs=1e-3)  # folded or not


def test_eval_writes_what_it_shows(data, checkpoint, tmp_path, capsys):
    output = tmp_path / "evaluation"
    common = (data, "--checkpoint", checkpoint, "--workers=0", "--device=cpu", "--image-size=48")
    status, out, err = run(capsys, "segment", "eval", *common, "--output", output)
    assert status == 0, err
    facts = json.loads((output / "result.json").read_text())
    assert f"{facts['miou']:.2f}" in out
    assert "3 of 6 classes at 48" in out
    assert "cross" in out
    rows = (output / "per_class.csv").read_text().splitlines()
    assert rows[0] == "class,iou,accuracy,pixels"
    assert len(rows) == 7
    windows = run_json(capsys, "segment", "eval", *common, "--window=32")
    assert windows["window"] == 32
    assert windows["miou"] != facts["miou"]


def test_published_result_stands_beside_where_it_belongs():
    assert published_miou("recnext_m3", classes=150) == {"miou": "41.0 % on ADE20K"}
    assert published_miou("recnext_m3", classes=6) == {}
    assert published_miou("recnext_m0", classes=150) == {}


def test_predict_draws_images_and_masks(data, checkpoint, tmp_path, capsys):
    output = tmp_path / "drawn"
    images = data / "images" / "validation"
    found = run_json(capsys, "segment", "predict", images, "--checkpoint", checkpoint, "--output", output)
    assert [Path(result["image"]).name for result in found] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    for result in found:
        mask = np.asarray(Image.open(result["mask"]))
        assert mask.shape == (40, 56)
        assert sum(entry["share"] for entry in result["classes"]) == pytest.approx(1, abs=1e-5)
        for entry in result["classes"]:
            assert (mask == entry["index"]).mean() == pytest.approx(entry["share"], abs=1e-5)
        assert Image.open(result["drawn"]).width > 56


def test_predict_goes_on_after_a_broken_image_and_names_files_apart(data, checkpoint, tmp_path, capsys):
    image = data / "images" / "validation" / "000001.jpg"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.jpg").write_bytes(image.read_bytes())
    (tmp_path / "b" / "torn.jpg").write_bytes(image.read_bytes()[:100])
    output = tmp_path / "out"
    status, out, err = run(
        capsys, "segment", "predict", tmp_path / "a", tmp_path / "b", "--checkpoint", checkpoint, "--output", output
    )
    assert status == 1
    assert "torn.jpg" in err
    assert "2 drawn" in err
    assert out.count("same.jpg: ") == 2
    names = {path.name for path in output.iterdir()}
    assert names == {"same.png", "same_mask.png", "same_2.png", "same_2_mask.png", "classes.json"}


def test_predict_reads_videos(checkpoint, tmp_path, capsys):
    pytest.importorskip("av", reason="needs the video extra")
    from fractions import Fraction

    from recnext.data.video import VideoReader, VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", rate=Fraction(5)) as writer:
        for shade in range(3):
            writer.write(np.full((32, 48, 3), 60 * shade, dtype=np.uint8))
    output = tmp_path / "out"
    [found] = run_json(
        capsys, "segment", "predict", tmp_path / "clip.mp4", "--checkpoint", checkpoint, "--output", output
    )
    assert found["frames"] == 3
    with VideoReader(output / "clip.mp4") as reader:
        assert [frame.shape for frame in reader] == [(32, 48, 3)] * 3


def test_predict_goes_on_after_a_broken_video(data, checkpoint, tmp_path, capsys):
    pytest.importorskip("av", reason="needs the video extra")
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    names = (tmp_path / "torn.mp4", data / "images" / "validation" / "000001.jpg")
    output = tmp_path / "out"
    status, out, err = run(capsys, "segment", "predict", *names, "--checkpoint", checkpoint, "--output", output)
    assert status == 1
    assert "1 drawn" in err
    assert "torn.mp4 is no video that can be read" in err
    assert out.count("\n") == 1


def test_mistakes_are_one_line(data, checkpoint, tmp_path, capsys):
    def message(*arguments):
        return fails(capsys, "segment", *arguments)

    assert "holds no images with masks" in message("train", tmp_path, *TINY)
    assert "--image-size is 8" in message("train", data, *TINY, "--image-size=8")
    assert "names 6 classes, not 9" in message("train", data, *TINY, "--num-classes=9")
    assert "resnet18 is no RecNeXt" in message("train", data, *TINY, "--model=resnet18", f"--output={tmp_path / 'r'}")
    plain = tmp_path / "plain"
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        (plain / kind).mkdir(parents=True)
        Image.new(mode, (40, 40)).save(plain / kind / "a.png")
    common = (plain, "--checkpoint", checkpoint, "--workers=0", "--device=cpu")
    assert "does not name its classes" in message("eval", *common)
    assert "knows 6 classes" in message("eval", *common, "--num-classes=4")
    Image.new("L", (40, 40), 77).save(plain / "masks" / "a.png")
    assert "holds label 77 at row 0, column 0: expected 0..5" in message("eval", *common, "--num-classes=6")
    (plain / "masks" / "a.png").unlink()
    assert "no mask in" in message("eval", *common, "--num-classes=6")
    assert "holds a run on photos" in _demo_on_another_run(capsys, tmp_path / "other")


def _demo_on_another_run(capsys, folder):
    folder.mkdir()
    (folder / "config.yaml").write_text("settings: {model: recnext_m1}\ndata: photos\n")
    return fails(capsys, "segment", "demo", "--output", folder)


@pytest.mark.slow
def test_demo_reaches_the_promised_miou_and_its_next_commands_work(tmp_path):
    def in_a_process(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "recnext", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = in_a_process("segment", "demo")
    folder = tmp_path / "runs" / "segment_demo"
    result = json.loads((folder / "evaluation" / "result.json").read_text())
    assert result["miou"] >= 70
    assert result["fused"]["miou"] == pytest.approx(result["miou"], abs=0.05)
    assert float(re.search(r"held-out mIoU\W+([\d.]+) %", printed)[1]) == pytest.approx(result["miou"], abs=0.006)
    for name in ("curves", "samples"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 300
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  recnext ")]
    assert commands == list(next_commands(folder.relative_to(tmp_path)))
    for command in commands:
        in_a_process(*shlex.split(command)[1:])
