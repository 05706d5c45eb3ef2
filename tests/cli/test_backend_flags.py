"""`--backend` and `--precision` of predict and eval: the same answers from another runtime."""

import numpy as np
import pytest
from PIL import Image

from cli.command import fails, run_json
from recnext.checkpoints import load, save
from recnext.study.demo.digits import CLASS_NAMES, write_folders


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECNEXT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "x.safetensors"
    save(load("test_recnext_m", num_classes=10), path, class_names=CLASS_NAMES)
    return path


def test_predict_in_onnx_runtime(weights, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    arguments = (photos, "--checkpoint", weights, "--batch-size", 2, "--device", "cpu")
    plain = run_json(capsys, "predict", *arguments)
    fast = run_json(capsys, "predict", *arguments, "--backend", "onnxruntime")
    for one, other in zip(plain, fast, strict=True):
        assert [score["index"] for score in one["classes"]] == [score["index"] for score in other["classes"]]
        expected = [score["probability"] for score in one["classes"]]
        assert [score["probability"] for score in other["classes"]] == pytest.approx(expected, rel=1e-3)


def test_eval_in_openvino(weights, tmp_path, capsys):
    write_folders(tmp_path / "digits", per_class=2)
    arguments = (tmp_path / "digits", f"--checkpoint={weights}", "--image-size=32", "--workers=0", "--device=cpu")
    plain = run_json(capsys, "eval", *arguments)
    fast = run_json(capsys, "eval", *arguments, "--backend=openvino", "--precision=f32")
    assert fast["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-4)
    assert fast["top1"] == plain["top1"]


def test_an_unknown_backend_is_one_line(weights, tmp_path, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    error = fails(capsys, "predict", tmp_path / "a.png", "--checkpoint", weights, "--backend", "npu")
    assert error.startswith("backend='npu' must be auto, ")
