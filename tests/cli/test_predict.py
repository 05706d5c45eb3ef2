import csv
import json

import numpy as np
import pytest
from PIL import Image

from checkpoints.files import network
from cli.command import fails, run, run_json
from recnext.checkpoints import save

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
FOUND = ("a.png", "b.jpg", "deeper/c.webp")


@pytest.fixture
def weights(tmp_path):
    return save(network(), tmp_path / "x.safetensors", class_names=NAMES)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "deeper/c.webp"):
        Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_lines(weights, photos, capsys):
    status, out, err = run(capsys, "predict", photos, "--checkpoint", weights, "--topk", 2)
    assert status == 0
    assert "cannot read" not in err
    lines = out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(photos / name) for name in FOUND]
    assert all(line.count("%") == 2 for line in lines)


def test_json_and_csv_agree(weights, photos, tmp_path, capsys):
    table = tmp_path / "out.csv"
    arguments = ("--checkpoint", weights, "--batch-size", 2, "--topk", 3, "--image-size", 64, "--output", table)
    rows = run_json(capsys, "predict", photos / "*.*", photos / "deeper", *arguments)
    assert [row["image"] for row in rows] == [str(photos / name) for name in FOUND]
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9
    for line, (row, score) in zip(lines, [(item, score) for item in rows for score in item["classes"]], strict=True):
        assert (line["image"], line["class"], int(line["index"])) == (row["image"], score["name"], score["index"])
        assert float(line["probability"]) == pytest.approx(score["probability"], abs=1e-6)
        assert score["name"] == NAMES[score["index"]]


def test_fused_or_not_gives_the_same_answers(weights, photos, capsys):
    fused = run_json(capsys, "predict", photos, "--checkpoint", weights)
    plain = run_json(capsys, "predict", photos, "--checkpoint", weights, "--no-fused")
    for one, other in zip(fused, plain, strict=True):
        assert [score["name"] for score in one["classes"]] == [score["name"] for score in other["classes"]]


def test_unreadable_images_are_reported_at_the_end(weights, photos, capsys):
    (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:300])
    (photos / "notes.jpg").write_text("hello")
    status, out, err = run(capsys, "predict", photos, photos / "gone.png", "--checkpoint", weights, "--json")
    assert status == 1
    rows = {row["image"]: row for row in json.loads(out)}
    assert len(rows) == 5
    assert rows[str(photos / "gone.png")]["reason"] == "no such file"
    assert len(rows[str(photos / "b.jpg")]["classes"]) == 5
    assert f"recnext: cannot read {photos / 'notes.jpg'}: not an image" in err
    assert err.rstrip().endswith("3 images could not be read")


def test_all_unreadable_is_still_json(weights, tmp_path, capsys):
    (tmp_path / "x.png").write_text("hello")
    status, out, _ = run(capsys, "predict", tmp_path / "x.png", "--checkpoint", weights, "--json")
    assert status == 1
    assert json.loads(out) == [{"image": str(tmp_path / "x.png"), "reason": "not an image, or a damaged one"}]


def test_user_errors(weights, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "random ones tell nothing" in fails(capsys, "predict", photos, "--model", "recnext_m0")
    assert "no images in" in fails(capsys, "predict", tmp_path / "empty", "--checkpoint", weights)
    assert "there is no file or folder" in fails(capsys, "predict", tmp_path / "gone.png", "--checkpoint", weights)
    assert "no device is called 'tpu'" in fails(capsys, "predict", photos, "--checkpoint", weights, "--device", "tpu")
    for flag in ("topk", "batch-size", "workers"):
        for value in (0, -1):
            assert f"--{flag} is {value}" in fails(
                capsys, "predict", photos, "--checkpoint", weights, f"--{flag}", value
            )
    assert "no such file" in fails(capsys, "predict", photos, "--checkpoint", tmp_path / "no.pth")
    output = tmp_path / "no" / "x.csv"
    assert "there is no folder" in fails(capsys, "predict", photos, "--checkpoint", weights, "--output", output)
