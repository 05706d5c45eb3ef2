import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cli.command import fails, run_json
from recnext.checkpoints import load, save
from recnext.deploy.export import described, export_to, target
from recnext.deploy.export.files import ExportedNetwork, is_exported
from recnext.errors import MissingExtraError, RecNextError


def test_suffixes():
    assert is_exported("a/b.onnx")
    assert is_exported("b.tflite")
    assert not is_exported("recnext_m1.dist_300e_in1k")
    assert not is_exported("weights.safetensors")


def test_running_litert_asks_for_no_converter(monkeypatch):
    # The package's function `targets` stands before the module of that name.
    module = sys.modules["recnext.deploy.export.targets"]
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "litert_torch" else object())
    assert target("litert").missing() == "litert_torch"
    assert target("litert").missing(running=True) is None


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch", "pixels"])
def test_a_file_is_the_network_it_was(exports, tiny, name):
    """Any batch, also where the file takes two images at once; probabilities come back as their logarithm."""
    network = ExportedNetwork(exports[name].path, threads=1, trust=name == "torch")
    assert network.num_classes == 7
    assert network.pretrained_cfg["label_names"][1] == "bee"
    # pixels that 8 bits can hold, normalised
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    pixels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    images = (pixels / 255 - mean) / std
    with torch.no_grad():
        actual, expected = network(images).softmax(1), tiny(images).softmax(1)
    torch.testing.assert_close(actual, expected, atol=1e-3 if name == "pixels" else 1e-5, rtol=0)


def test_predict_and_bench_take_files(exports, tiny, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(photo)
    weights = save(tiny, tmp_path / "tiny.safetensors")
    expected = run_json(capsys, "predict", photo, "--checkpoint", weights, "--image-size", 64, "--topk", 7)
    for name in ("onnx", "openvino", "torch", "pixels"):
        rows = run_json(capsys, "predict", photo, "--model", exports[name].path, "--topk", 7, "--trust")
        found = {score["name"]: score["probability"] for score in rows[0]["classes"]}
        for score in expected[0]["classes"]:
            assert found[score["name"]] == pytest.approx(score["probability"], abs=2e-3)
    bench = ("bench", exports["onnx"].path, exports["pixels"].path, "--size", 64, "--quick", "--seconds", 0.1)
    rows = run_json(capsys, *bench, "--no-throughput")["rows"]
    assert {row["model"]: (row["backend"], row["precision"]) for row in rows} == {
        "tiny.onnx": ("onnxruntime", "fp32"),
        "pixels_fp16.onnx": ("onnxruntime", "fp16"),
    }
    line = fails(capsys, "bench", exports["pixels"].path)
    assert "takes images of 64x64 only, not 224x224: add --size 64" in line
    for option in (("--precision", "bf16"), ("--backend", "openvino"), ("--pretrained",), ("--ema",)):
        assert "has its own weights" in fails(capsys, "predict", photo, "--model", exports["onnx"].path, *option)
    line = fails(capsys, "predict", photo, "--model", exports["onnx"].path, "--output", tmp_path / "x.parquet")
    assert "x.parquet: of an exported file the answers are written as .csv" in line
    line = fails(capsys, "predict", photo, "--model", exports["onnx"].path, "--checkpoint", weights)
    assert "has its own weights" in line


def test_maps_are_timed_but_not_classified(tmp_path, capsys):
    network = load("test_recnext_m", features_only=True)
    spec = described(network, size=(64, 64), name="maps", dynamic_batch=False, dynamic_size=False)
    made = export_to(target("torch"), network, spec, tmp_path, threads=1)
    with pytest.raises(RecNextError, match="gives maps, not classes"):
        ExportedNetwork(made.path, trust=True)
    (row,) = run_json(
        capsys,
        "bench",
        made.path,
        "--trust",
        "--size",
        64,
        "--quick",
        "--seconds",
        0.1,
        "--threads",
        1,
        "--no-throughput",
    )["rows"]
    assert (row["model"], row["backend"]) == ("maps.pt2", "torch")


def test_a_program_of_something_else_is_named(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    words = helper.make_tensor_value_info("words", TensorProto.INT64, [1, 8])
    same = helper.make_tensor_value_info("same", TensorProto.INT64, [1, 8])
    graph = helper.make_graph([helper.make_node("Identity", ["words"], ["same"])], "words", [words], [same])
    onnx.save(helper.make_model(graph), tmp_path / "words.onnx")
    with pytest.raises(RecNextError, match=r"takes words int64 1x8: expected one input of images, of 4 dimensions"):
        ExportedNetwork(tmp_path / "words.onnx")


def test_what_a_file_does_not_say_is_taken_from_its_report(exports, tmp_path):
    import onnx

    model = onnx.load(exports["onnx"].path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "tiny.onnx")
    assert "label_names" not in ExportedNetwork(tmp_path / "tiny.onnx").pretrained_cfg
    report = exports["onnx"].path.with_name("tiny.onnx.json").read_text()
    (tmp_path / "tiny.onnx.json").write_text(report)
    assert ExportedNetwork(tmp_path / "tiny.onnx").pretrained_cfg["label_names"][6] == "gnu"
    (tmp_path / "tiny.onnx.json").write_text(json.dumps([1]))
    with pytest.raises(RecNextError, match="is not the report of an export"):
        ExportedNetwork(tmp_path / "tiny.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", '{"a": 1}'),
        ("mean", "[1, 2]"),
        ("mean", "a"),
        ("input_size", "[3]"),
        ("crop_pct", "[]"),
        ("class_names", "7"),
        ("precision", "fp7"),
        ("model", "../x"),
    ],
)
def test_a_header_of_another_kind_is_one_line(key, value, exports, tmp_path):
    import onnx

    model = onnx.load(exports["onnx"].path)
    next(item for item in model.metadata_props if item.key == f"recnext.{key}").value = value
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(RecNextError, match=r"x\.onnx is damaged, or not what its name says: [^\n]+$"):
        ExportedNetwork(tmp_path / "x.onnx")


def test_mistakes_are_one_line(exports, tmp_path, monkeypatch):
    with pytest.raises(RecNextError, match="there is no file"):
        ExportedNetwork(tmp_path / "gone.onnx")
    for suffix, message in (("onnx", "is not a readable ONNX file"), ("pt2", "is not a readable torch.export")):
        (tmp_path / f"x.{suffix}").write_bytes(b"\xff\xff nonsense")
        with pytest.raises(RecNextError, match=message):
            ExportedNetwork(tmp_path / f"x.{suffix}", trust=True)
    (tmp_path / "x.xml").write_text("<net/>")
    with pytest.raises(RecNextError, match="has no weights"):
        ExportedNetwork(tmp_path / "x.xml")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(RecNextError, match=r"empty\.onnx is not a readable ONNX file"):
        ExportedNetwork(tmp_path / "empty.onnx")
    (tmp_path / "x.mlpackage").mkdir()
    with pytest.raises(RecNextError, match=r"x\.mlpackage runs on Apple devices only"):
        ExportedNetwork(tmp_path / "x.mlpackage")
    with pytest.raises(RecNextError, match="takes images of 64x64 only, not 96x96"):
        ExportedNetwork(exports["pixels"].path)(torch.zeros(1, 3, 96, 96))
    monkeypatch.setattr(type(target("onnx")), "packages", ("no_such_package",))
    with pytest.raises(MissingExtraError, match=r"running tiny\.onnx needs no_such_package"):
        ExportedNetwork(exports["onnx"].path)
