import json

import pytest

from recnext.checkpoints import load, save
from recnext.cli.main import dispatch
from recnext.data.digits import CLASS_NAMES, write_folders


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    write_folders(root, per_class=2)
    return str(root)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save(load("test_recnext_m", num_classes=10), path, class_names=CLASS_NAMES)
    return str(path)


OPTIONS = ["--image-size=32", "--workers=0", "--device=cpu"]


def test_json_is_all_there_is_on_stdout_and_fused_equals_unfused(data, checkpoint, capsys):
    assert dispatch(["eval", data, f"--checkpoint={checkpoint}", "--json", *OPTIONS]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["images"], plain["classes"], plain["image_size"]) == (20, 10, [32, 32])
    assert dispatch(["eval", f"{data}/val", f"--checkpoint={checkpoint}", "--json", "--fused", *OPTIONS]) == 0
    fused = json.loads(capsys.readouterr().out)
    assert fused["fused"] is True
    assert fused["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    assert fused["top1"] == plain["top1"]


def test_table_and_output_folder(data, checkpoint, tmp_path, capsys):
    output = tmp_path / "out"
    assert dispatch(["eval", data, f"--checkpoint={checkpoint}", f"--output={output}", *OPTIONS]) == 0
    assert "top-1" in capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {"per_class.csv", "result.json", "confusion.png"}
    assert len((output / "per_class.csv").read_text().splitlines()) == 11


def test_mistakes_are_one_line(data, checkpoint, tmp_path, capsys):
    (tmp_path / "two" / "a").mkdir(parents=True)
    (tmp_path / "two" / "b").mkdir()
    for arguments, message in (
        ([data], "nothing to evaluate: give --checkpoint"),
        ([data, "--pretrained"], "--pretrained needs --model NAME"),
        ([str(tmp_path / "two"), f"--checkpoint={checkpoint}"], "knows 10 classes (0, 1, 2, 3, 4, ... 5 more)"),
        ([str(tmp_path / "none"), f"--checkpoint={checkpoint}"], "does not exist"),
        ([data, f"--checkpoint={checkpoint}", "--batch-size=0"], "--batch-size is 0"),
    ):
        assert dispatch(["eval", *arguments, *OPTIONS]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1


def test_what_cannot_be_evaluated_is_said_before_it_starts(data, checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    grey = save(load("test_recnext_m", num_classes=10, in_chans=1), tmp_path / "grey.safetensors")
    for arguments, message in (
        ([f"--checkpoint={checkpoint}", "--image-size=0"], "--image-size is 0: expected an integer from 32"),
        ([f"--checkpoint={checkpoint}", f"--output={tmp_path / 'file'}"], "is a file: --output expects a folder"),
        ([f"--checkpoint={grey}"], "takes images of 1 channel"),
    ):
        assert dispatch(["eval", data, *OPTIONS, *arguments]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
