import json

import pytest
import torch

from checkpoints.files import network
from cli.command import fails, run
from recnext.checkpoints import save
from recnext.cli.main import dispatch
from recnext.study.demo.digits import CLASS_NAMES, write_folders

SMALL = ("--size", 64, "--no-dynamic", "--threads", 1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return save(network(num_classes=10), folder / "x.safetensors", class_names=CLASS_NAMES)


def test_a_table_and_files(weights, tmp_path, capsys):
    output = tmp_path / "new" / "files"
    status, out, err = run(
        capsys, "export", weights, "--to", "torch,torchscript", "--with-preprocess", "--output", output, *SMALL
    )
    assert status == 0, err
    for text in ("test_recnext_m.pt2", "test_recnext_m.pt", "BatchNorms left: 0", "pixels uint8 1x64x64x3", "100%"):
        assert text in out
    names = {"test_recnext_m.pt2", "test_recnext_m.pt2.json", "test_recnext_m.pt", "test_recnext_m.pt.json"}
    assert {path.name for path in output.iterdir()} == names


def test_json_of_random_weights(tmp_path, capsys):
    arguments = ("export", "test_recnext_m", "--to=torch", "--name=mine", "--output", tmp_path, "--json", *SMALL)
    status, out, err = run(capsys, *arguments, "--features")
    assert status == 0
    assert "has random weights" in err
    (made,) = json.loads(out)
    assert made["path"] == "mine.pt2"
    assert made["passed"] is True
    assert len(made["contents"]["outputs"]) == 4


@pytest.mark.slow
def test_int8_is_judged(weights, tmp_path, capsys):
    """Random weights, so any loss is allowed; the file then predicts by the classes' names."""
    write_folders(tmp_path / "data", per_class=1)
    data = tmp_path / "data"
    options = ("--calibrate", data / "train", "--validate", data, "--max-loss", 100, "--output", tmp_path, *SMALL)
    status, out, err = run(capsys, "export", weights, "--precision", "fp32,int8", *options)
    assert status == 0, err
    assert "top-1 on 10 images" in out
    photo = data / "val" / "3"
    assert dispatch(["predict", str(photo), "--model", str(tmp_path / "test_recnext_m_int8.onnx")]) == 0
    assert capsys.readouterr().out.count("%") == 5


def test_a_failing_proof_is_status_1(weights, tmp_path, capsys, monkeypatch):
    from recnext.deploy.export import report

    monkeypatch.setattr(report, "TOLERANCE", {"fp32": 1e-12})
    status, out, _ = run(capsys, "export", weights, "--to", "torch", "--output", tmp_path / "out", *SMALL)
    assert status == 1
    assert "FAILS: outputs differ by" in out
    assert not (tmp_path / "out").exists()


def test_a_folder_is_refused_before_weights_are_read(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nonsense")
    line = fails(capsys, "export", damaged, "--to", "torch", "--output", tmp_path / "file")
    assert "is a file: --output expects a folder" in line
    line = fails(capsys, "export", damaged, "--to", "torch", "--output", tmp_path / "file" / "in", status=1)
    assert "Not a directory: give another folder, --output" in line


def test_what_was_made_before_a_failure_is_told(weights, tmp_path, capsys, monkeypatch):
    from recnext.deploy.export.torchscript import TorchScript

    def broken(*_):
        raise RuntimeError("no such operator: frobnicate")

    monkeypatch.setattr(TorchScript, "export", broken)
    line = fails(capsys, "export", weights, "--to", "torch,torchscript", "--output", tmp_path, *SMALL)
    assert line.startswith("torchscript cannot export test_recnext_m: no such operator: frobnicate; ")
    assert line.endswith(f"made before, in {tmp_path}: test_recnext_m.pt2")


def test_a_segmenter_gives_its_logits(tmp_path, capsys):
    from recnext.tasks import segmentation

    torch.save(segmentation.build("test_recnext_m", num_classes=6).state_dict(), tmp_path / "segmenter.pth")
    arguments = ("export", tmp_path / "segmenter.pth", "--to=torch", "--output", tmp_path, "--json", *SMALL)
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    [made] = json.loads(out)
    assert len(made["contents"]["outputs"]) == 1


def test_a_detector_gives_its_backbone(tmp_path, capsys):
    """Five maps of its pyramid."""
    from recnext.checkpoints.metadata import save_checkpoint
    from recnext.tasks import detection
    from recnext.tasks.detection.checkpoint import describe

    detector = detection.create("test_recnext_m", num_classes=2, channels=16)
    save_checkpoint(tmp_path / "detector.safetensors", detector.state_dict(), describe(detector))
    arguments = ("export", tmp_path / "detector.safetensors", "--to=torch", "--output", tmp_path, "--json", *SMALL)
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    (made,) = json.loads(out)
    assert json.loads(made["header"]["recnext.outputs"])[-1] == "features_pool"
    assert len(made["contents"]["outputs"]) == 5


def test_mistakes_are_one_line(weights, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ((weights, "--to", "onnxx"), "no export target is called 'onnxx': did you mean 'onnx'?"),
        ((weights, "--to", ","), "no export target is given"),
        ((weights, "--precision", "int4"), "precision 'int4': expected fp32, fp16, int8"),
        ((weights, "--precision", "int8"), "int8 for onnx needs images to calibrate on: add --calibrate FOLDER"),
        ((weights, "--opset", 3, "--size", 64), "opset 3: expected 18 to"),
        ((weights, "--to", "torch", "--size", 16), "the networks take 32 pixels or more"),
        ((weights, "--batch", 0), "--batch is 0: expected an integer from 1"),
        (
            (weights, "--to", "torch", "--size", 64, "--output", tmp_path / "file"),
            "is a file: --output expects a folder",
        ),
        ((tmp_path / "gone.pth",), "gone.pth: expected a network's name, a weight file or a run folder"),
        ((weights, "--pretrained"), "has its own weights: leave --pretrained out"),
        ((weights, "--checkpoint", weights), "are both weights: give one, or a network's name"),
        ((weights, "--to", "torch", "--precision", "int8"), "torch has no int8: it has fp32, fp16"),
        ((weights, "--to", "torch", "--calibrate", tmp_path), "is read for int8 only: add --precision int8"),
        ((weights, "--to", "torch", "--weights", "int8"), "--weights int8 is for coreml only, not torch"),
        ((weights, "--to", "torch", "--delegate", "coreml"), "--delegate coreml is for executorch only, not torch"),
        ((weights, "--to", "torch", "--opset", 18), "--opset 18 is for onnx, openvino only, not torch"),
        ((weights, "--to", "torch", "--max-loss", -1), "--max-loss is -1: expected 0 or more points"),
        ((weights, "--to", "torch", "--name", "a/b"), "the file's name 'a/b': expected a plain name"),
        ((weights, "--to", "torch", "--name", ""), "the file's name '': expected a plain name"),
        ((weights, "--to", "torch", "--name", ".."), "the file's name '..': expected a plain name"),
        (("recnext_mm1",), "did you mean"),
        ((weights, "--to=torch", "--size=64", "--validate", tmp_path / "none"), "does not exist"),
        (
            (weights, "--to=torch", "--size=64", "--features", "--validate", tmp_path),
            "cannot be measured on maps",
        ),
    ):
        assert message in fails(capsys, "export", *arguments)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nonsense")
    assert "damaged.safetensors" in fails(capsys, "export", damaged)


def test_the_checkpoint_is_never_replaced(tmp_path, capsys):
    path = tmp_path / "test_recnext_m.pt"
    torch.save(network().state_dict(), path)
    before = path.read_bytes()
    options = ["--to=torchscript", f"--output={tmp_path}", "--overwrite", *SMALL]
    assert "is read by this command" in fails(capsys, "export", path, *options)
    assert path.read_bytes() == before
