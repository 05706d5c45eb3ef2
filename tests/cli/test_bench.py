"""`recnext bench` on tiny networks."""

import csv
import json
from types import SimpleNamespace

import pytest

from checkpoints.files import network
from recnext.checkpoints import save
from recnext.cli.main import dispatch
from recnext.study.draw.speed import pareto

ONE = ["bench", "test_recnext_m", "test_recnext_l", "--size", "64", "--quick", "--backend", "torch", "--threads", "1"]


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("RECNEXT_CACHE", "off")


def test_json_csv_and_picture(capsys, tmp_path):
    table, picture = tmp_path / "bench.csv", tmp_path / "bench.png"
    assert dispatch([*ONE, "--precision", "fp32", "--json", "--output", str(table), "--plot", str(picture)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["threads"] == 1
    rows = report["rows"]
    assert {row["model"] for row in rows} == {"test_recnext_m", "test_recnext_l"}
    for row in rows:
        assert (row["backend"], row["precision"], row["size"]) == ("torch", "fp32", 64)
        assert 0 < row["low_ms"] <= row["latency_ms"] <= row["high_ms"]
        assert row["images_per_second"] > 0
    with table.open(newline="") as file:
        assert [line["model"] for line in csv.DictReader(file)] == [row["model"] for row in rows]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_table(capsys):
    assert dispatch([*ONE[:2], *ONE[3:], "--precision", "fp32", "--no-throughput"]) == 0
    out = capsys.readouterr().out
    assert "test_recnext_m" in out
    assert "torch fp32" in out


def test_resolution(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("recnext.cli.bench._IMAGES", (64, 128))
    picture = tmp_path / "resolution.png"
    assert dispatch(["bench", "--resolution", "--json", "--threads", "1", "--plot", str(picture)]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["image"] for row in rows} == {64, 128}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonet"], "there is no network 'nonet'"),
        (["test_recnext_m", "--backend", "tpu"], "--backend is 'tpu'"),
        (["test_recnext_m", "--size", "16"], "--size is 16"),
        (["test_recnext_m", "--seconds", "0"], "--seconds is 0"),
        (["test_recnext_m", "--threads", "0"], "--threads is 0"),
        (["test_recnext_m", "--output", "no/such/folder.csv"], "there is no folder no/such"),
        (
            ["test_recnext_m", "--backend", "onnxruntime", "--precision", "fp16", "--size", "64"],
            "none of test_recnext_m",
        ),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert dispatch(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error


def test_the_front_holds_what_nothing_beats():
    def row(name, latency, top1):
        return SimpleNamespace(model=name, latency_ms=latency, top1=top1)

    rows = [row("b", 2, 75), row("a", 1, 70), row("worse", 3, 74), row("c", 4, 80), row("unknown", 0.1, None)]
    assert [found.model for found in pareto(rows)] == ["a", "b", "c"]


def test_a_run_is_measured_at_its_own_size(capsys, tmp_path):
    model = network()
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 96, 96)}
    path = save(model, tmp_path / "x.safetensors")
    arguments = ["bench", str(path), "--quick", "--no-throughput", "--backend=torch", "--precision=fp32", "--json"]
    assert dispatch(arguments) == 0
    assert [row["size"] for row in json.loads(capsys.readouterr().out)["rows"]] == [96]
    assert dispatch([*arguments, "--size", "64"]) == 0
    assert [row["size"] for row in json.loads(capsys.readouterr().out)["rows"]] == [64]
