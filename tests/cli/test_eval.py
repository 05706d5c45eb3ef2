import json
import shlex

import pytest
from PIL import Image

from cli.command import fails, run
from recnext.checkpoints import load, save
from recnext.cli.main import dispatch
from recnext.study.demo.digits import CLASS_NAMES, write_folders


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
    assert fused["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-4)
    assert fused["top1"] == plain["top1"]


def test_mirror_and_crop_change_the_numbers(data, checkpoint, capsys):
    losses = set()
    for extra in ([], ["--tta"], ["--crop-pct=0.5"]):
        assert dispatch(["eval", data, f"--checkpoint={checkpoint}", "--json", *OPTIONS, *extra]) == 0
        facts = json.loads(capsys.readouterr().out)
        losses.add(facts["val_loss"])
        assert 0 <= facts["ece"] <= 100
        assert facts["published"] == {}
    assert len(losses) == 3


def test_imagenet_val_has_real_labels_and_the_published_accuracy_beside(tmp_path, capsys):
    from recnext.data.imagenet import wnids

    for number in range(1, 6):
        folder = tmp_path / "val" / wnids()[number]
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / f"ILSVRC2012_val_{number:08d}.JPEG")
    weights = save(load("recnext_m0"), tmp_path / "m0.safetensors", class_names=wnids())
    assert dispatch(["eval", str(tmp_path), f"--checkpoint={weights}", *OPTIONS, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["published"] == {"top-1 distilled": 74.7, "top-1 base": 73.2}
    assert (facts["images"], facts["classes"]) == (5, 1000)
    assert facts["images_real"] == 4  # the first has no ReaL label
    assert "top-1, ReaL labels" in shown(capsys, ["eval", str(tmp_path), f"--checkpoint={weights}", *OPTIONS])


def shown(capsys, arguments):
    assert dispatch(arguments) == 0
    return capsys.readouterr().out


def test_corruptions_give_one_table(tmp_path, capsys):
    from recnext.tasks.classification.imagenet import ALEXNET_ERROR

    for corruption in ALEXNET_ERROR:
        for severity in range(1, 6):
            folder = tmp_path / "c" / corruption / str(severity) / "n01440764"
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (9 * severity, 0, 0)).save(folder / "a.png")
    weights = save(load("test_recnext_m"), tmp_path / "a.safetensors")
    arguments = ["eval", f"imagenet-c:{tmp_path / 'c'}", f"--checkpoint={weights}", *OPTIONS]
    assert "mCE" in shown(capsys, [*arguments, f"--output={tmp_path / 'out'}"])
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert list(facts["corruptions"]) == list(ALEXNET_ERROR)
    assert facts["mce"] == pytest.approx(sum(entry["ce"] for entry in facts["corruptions"].values()) / 15)
    ten = save(load("test_recnext_m", num_classes=10), tmp_path / "ten.safetensors")
    assert dispatch(["eval", f"imagenet-c:{tmp_path / 'c'}", f"--checkpoint={ten}", *OPTIONS]) == 2
    assert "for networks of ImageNet's 1000" in capsys.readouterr().err


def test_table_and_output_folder(data, checkpoint, tmp_path, capsys):
    output = tmp_path / "out"
    assert dispatch(["eval", data, f"--checkpoint={checkpoint}", f"--output={output}", *OPTIONS]) == 0
    assert "top-1" in capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {"per_class.csv", "result.json", "confusion.png"}
    assert len((output / "per_class.csv").read_text().splitlines()) == 11


def test_other_classes_come_with_advice_that_works(tmp_path, checkpoint, capsys):
    root = tmp_path / "my data"
    for index, name in enumerate(("ant", "bee") * 2):
        folder = root / ("train" if index < 2 else "val") / name
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(folder / f"{number}.png")
    advice = fails(capsys, "eval", root, f"--checkpoint={checkpoint}", *OPTIONS).partition("train on these with: ")[2]
    more = ("--epochs=1", "--batch-size=4", *OPTIONS, f"--output={tmp_path / 'run'}")
    status, _, err = run(capsys, *shlex.split(advice)[1:], *more)
    assert status == 0, err


def test_results_of_others_are_not_replaced(data, checkpoint, tmp_path, capsys):
    arguments = ("eval", data, f"--checkpoint={checkpoint}", f"--output={tmp_path}", *OPTIONS)
    (tmp_path / "result.json").write_text("my own results")
    assert "result.json exists and was not written by this command" in fails(capsys, *arguments)
    for _ in range(2):
        status, _, err = run(capsys, *arguments, "--overwrite")
        assert status == 0, err
    assert run(capsys, *arguments)[0] == 0  # its own


def test_mistakes_are_one_line(data, checkpoint, tmp_path, capsys):
    (tmp_path / "two" / "a").mkdir(parents=True)
    (tmp_path / "two" / "b").mkdir()
    for arguments, message in (
        ([data], "no weights are given"),
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
        ([f"--checkpoint={checkpoint}", "--image-size=0"], "image size '0': the networks take 32 pixels or more"),
        ([f"--checkpoint={checkpoint}", f"--output={tmp_path / 'file'}"], "is a file: --output expects a folder"),
        ([f"--checkpoint={grey}"], "takes images of 1 channel"),
    ):
        assert dispatch(["eval", data, *OPTIONS, *arguments]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
