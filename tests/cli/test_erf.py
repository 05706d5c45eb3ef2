"""`recnext erf`: table, JSON, picture and mistakes."""

import numpy as np
import pytest
from PIL import Image

from checkpoints.files import network
from cli.command import fails, run, run_json
from recnext.checkpoints import save

SMALL = ("--size", 64, "--count", 2)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path):
    return save(network(), tmp_path / "x.safetensors")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "c.png"):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_networks_side_by_side(weights, tmp_path, capsys):
    result = run_json(capsys, "erf", "test_recnext_m", "test_vit", weights, *SMALL)
    fields = result["fields"]
    assert [(field["model"], field["untrained"]) for field in fields] == [
        ("test_recnext_m", True),
        ("test_vit", True),
        ("test_recnext_m", False),
    ]
    assert fields[2]["weights"] == str(weights)
    for field in fields:
        sides = [one["side"] for one in field["contributions"]]
        assert [one["share"] for one in field["contributions"]] == [0.2, 0.3, 0.5, 0.99]
        assert sides == sorted(sides)
        assert 1 <= sides[0] <= sides[-1] <= 65
        assert field["centre"] == [32, 32]
    assert fields[0]["mixer_spans"][0] == {"stride": 4, "kernel": 80, "level": 4, "pixels": 320}
    assert [step["law"] for step in result["growth"]] == [5, 10, 20, 40, 80]
    assert "2 draws of random noise" in result["setting"]
    with Image.open(tmp_path / "erf.png") as picture:
        assert picture.width > 900


def test_networks_without_weights_are_named_so(weights, tmp_path, capsys):
    status, out, err = run(capsys, "erf", "test_recnext_a", *SMALL, "--output", tmp_path / "a.png")
    assert status == 0, err
    assert "some of untrained networks" in out
    assert "untrained" in out.split("test_recnext_a")[1].splitlines()[0]
    status, out, err = run(capsys, "erf", "test_recnext_m", "--checkpoint", weights, *SMALL)
    assert status == 0, err
    assert "untrained" not in out


def test_a_run_is_seen_at_its_own_size(tmp_path, capsys):
    model = network()
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 96, 64)}
    path = save(model, tmp_path / "x.safetensors")
    assert "96x64, 2 draws" in run_json(capsys, "erf", path, "--count", 2)["fields"][0]["images"]


def test_same_seed_same_field_and_images_change_it(weights, photos, capsys):
    arguments = ("erf", "--checkpoint", weights, "--size", 64)
    noise, again = (run_json(capsys, *arguments, "--count", 2)["fields"] for _ in range(2))
    assert noise == again
    on_photos = run_json(capsys, *arguments, "--images", photos, "--count", 2)
    assert "2 images of" in on_photos["setting"]
    assert on_photos["fields"][0]["offset"] != noise[0]["offset"]


def test_squares_about_the_centre_of_mass_and_logarithms(weights, capsys):
    arguments = ("erf", "--checkpoint", weights, *SMALL)
    plain = run_json(capsys, *arguments)["fields"][0]
    about_mass = run_json(capsys, *arguments, "--centre", "mass")["fields"][0]
    assert about_mass["offset"] == plain["offset"]
    for place, offset in zip(about_mass["centre"], plain["offset"], strict=True):
        assert place == round(31.5 + offset)
    log = run_json(capsys, *arguments, "--areas", "log")["fields"][0]
    # a concave rescaling lifts the far, small contributions
    assert all(a["side"] >= b["side"] for a, b in zip(log["contributions"], plain["contributions"], strict=True))


def test_mistakes_take_one_line(weights, photos, tmp_path, capsys):
    assert "did you mean recnext_m3" in fails(capsys, "erf", "recnext_m33", *SMALL)
    assert "--count is 0" in fails(capsys, "erf", "--count", 0)
    assert "expected N or HxW" in fails(capsys, "erf", "--size", "big")
    assert "there is no folder" in fails(capsys, "erf", "--output", tmp_path / "no" / "x.png")
    two = ("test_recnext_m", "test_recnext_a", "--checkpoint", weights)
    assert "--checkpoint is for one network, 2 are named" in fails(capsys, "erf", *two)
    assert "take one" in fails(capsys, "erf", "--checkpoint", weights, "--pretrained")
    assert "the network has 4 stages" in fails(capsys, "erf", "test_recnext_m", *SMALL, "--stage", 7)
    assert "there is no file or folder" in fails(capsys, "erf", "test_recnext_m", *SMALL, "--images", "gone")
    (photos / "a.png").write_text("hello")
    message = fails(capsys, "erf", "test_recnext_m", *SMALL, "--images", photos)
    assert "a.png" in message
    assert "not an image" in message
    assert "cannot take" in fails(capsys, "erf", "test_vit", "--size", "72x64", "--count", 1)
