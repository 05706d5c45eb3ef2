"""`recnext explain`: pictures, tables, JSON and mistakes."""

import numpy as np
import pytest
import timm
from PIL import Image

from checkpoints.files import network
from cli.command import fails, run, run_json
from recnext.checkpoints import save

pytest.importorskip("pytorch_grad_cam")
NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
    return path


def weights(folder, name="test_recnext_m"):
    return save(network(name), folder / f"{name}.safetensors", class_names=NAMES)


def test_tables_and_pictures(photo, tmp_path, capsys):
    folder = tmp_path / "out"
    status, out, err = run(capsys, "explain", photo, "--checkpoint", weights(tmp_path), "--topk", 2, "--output", folder)
    assert status == 0, err
    assert "Where the network looks" in out
    assert "What each level of stages.0.blocks.0.token_mixer adds" in out
    assert "16x16x16" in out  # level 0 of 64 pixels
    for name in ("grad_cam.png", "levels.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 600
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50


@pytest.mark.parametrize(("name", "levels"), [("test_recnext_m", 4), ("test_recnext_a", 2), ("test_recnext_l", 2)])
def test_json(name, levels, photo, tmp_path, capsys):
    block = {"test_recnext_m": "stages.1", "test_recnext_a": "stages.1.blocks.0", "test_recnext_l": "stages.1"}[name]
    arguments = ("--checkpoint", weights(tmp_path, name), "--output", tmp_path, "--image-size", 96)
    result = run_json(capsys, "explain", photo, *arguments, "--block", block, "--classes", "dog,0")
    predicted = run_json(capsys, "predict", photo, *arguments[:2], "--image-size", 96, "--topk", 7)[0]["classes"]
    chances = {score["name"]: score["probability"] for score in predicted}
    assert [score["name"] for score in result["classes"]] == ["dog", "ant"]
    for score in result["classes"]:
        assert score["probability"] == pytest.approx(chances[score["name"]], abs=1e-5)
        assert score["strongest"] is None or all(0 <= place < 96 for place in score["strongest"])
    shown = result["levels"]
    assert shown["block"].startswith("stages.1.blocks.0.token_mixer")
    assert [term["level"] for term in shown["terms"]] == list(range(levels))
    assert sum(term["share"] for term in shown["terms"]) == pytest.approx(1, abs=1e-5)
    for shares in shown["shares"].values():
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    for term in shown["terms"]:
        assert len(term["frequencies"]) == len(term["power"]) > 1


def test_networks_without_recursion_have_grad_cam_alone(photo, tmp_path, capsys):
    path = save(timm.create_model("test_resnet", num_classes=7).eval(), tmp_path / "r.safetensors", class_names=NAMES)
    arguments = ("explain", photo, "--checkpoint", path, "--model", "test_resnet", "--output", tmp_path)
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    assert "no recursive token mixer" in out
    assert (tmp_path / "grad_cam.png").exists()
    assert not (tmp_path / "levels.png").exists()
    assert "no recursive token mixer" in fails(capsys, *arguments, "--block", "layer1")


def test_mistakes_take_one_line(photo, tmp_path, capsys):
    known = ("--checkpoint", weights(tmp_path), "--output", tmp_path)
    assert "random ones explain nothing" in fails(capsys, "explain", photo, "--model", "recnext_m0")
    assert "cannot read" in fails(capsys, "explain", tmp_path / "gone.png", *known)
    assert "no class is called 'yak'" in fails(capsys, "explain", photo, *known, "--classes", "ant,yak")
    assert "the network has stages.0.blocks.0" in fails(capsys, "explain", photo, *known, "--block", "stages.9")
    assert "has 16 channels" in fails(capsys, "explain", photo, *known, "--channel", 16)
    assert "stage 9: this network has 4" in fails(capsys, "explain", photo, *known, "--stage", 9)
    assert "--topk is 0" in fails(capsys, "explain", photo, *known, "--topk", 0)
    assert "expects a folder" in fails(capsys, "explain", photo, *known[:2], "--output", photo)
    photo.rename(tmp_path / "levels.png")
    assert "is read by this command" in fails(capsys, "explain", tmp_path / "levels.png", *known, "--overwrite")


@pytest.mark.parametrize("command", [("erf",), ("attention-profile",), ("explain", "x.png", "--checkpoint", "x.pt")])
def test_without_matplotlib_nothing_is_begun(command, monkeypatch, capsys):
    monkeypatch.setattr("recnext.engine.figures.can_draw", lambda: False)
    message = fails(capsys, *command)
    assert message == f"recnext {command[0]} needs matplotlib, which is not installed: pip install 'recnext[train]'"


def test_names_with_commas_and_of_either_unicode_form(photo, tmp_path, capsys):
    names = ["tench, Tinca tinca", "tench", "cafe\N{COMBINING ACUTE ACCENT}", "[dog]", "e", "f", "g"]
    path = save(network(), tmp_path / "c.safetensors", class_names=names)
    arguments = ("explain", photo, "--checkpoint", path, "--output", tmp_path, "--classes")
    result = run_json(capsys, *arguments, "tench, Tinca tinca,café,1,[dog]")
    assert [score["index"] for score in result["classes"]] == [0, 2, 1, 3]
    status, out, err = run(capsys, *arguments, "[dog]")
    assert (status, "[dog]" in out) == (0, True), err
