"""`recnext attention-profile`: table, JSON, picture and mistakes."""

import pytest
from PIL import Image

from checkpoints.files import network
from cli.command import fails, run, run_json
from recnext.checkpoints import save

SMALL = ("--size", 64, "--count", 2)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_table_of_an_untrained_network(tmp_path, capsys):
    status, out, err = run(capsys, "attention-profile", "--model", "test_recnext_a", *SMALL)
    assert status == 0, err
    assert "of an untrained network" in out
    rows = [line.split() for line in out.splitlines()]
    layers = [row for row in rows if row and row[0] in ("0.0", "1.0", "2.0", "2.1", "3.0")]
    assert [int(row[1]) for row in layers] == [64, 16, 4, 4, 1]
    (mean,) = [row for row in rows if row and row[0] == "mean"]
    columns = [[float(row[2 + column]) for row in layers] for column in range(3)]
    for shown, column in zip(mean[1:4], columns, strict=True):
        assert float(shown) == pytest.approx(sum(column) / 5, abs=2e-3)
    with Image.open(tmp_path / "attention.png") as picture:
        assert picture.width > 1000


def test_json_of_weights(tmp_path, capsys):
    path = save(network("test_recnext_l"), tmp_path / "l.safetensors")
    result = run_json(capsys, "attention-profile", "--checkpoint", path, *SMALL)
    assert not result["untrained"]
    assert "test_recnext_l" in result["setting"]
    assert len(result["layers"]) == 6
    assert set(result["layers"][0]["similarity"]) == {"elu", "softplus", "relu"}


def test_mistakes_take_one_line(tmp_path, capsys):
    assert "no linear attention layer" in fails(capsys, "attention-profile", "--model", "test_recnext_m", *SMALL)
    assert "no network is called" in fails(capsys, "attention-profile", "--model", "recnext_z", *SMALL)
    assert "--count is 0" in fails(capsys, "attention-profile", "--count", 0)
    assert "there is no folder" in fails(capsys, "attention-profile", "--output", tmp_path / "no" / "x.png")
    assert "there is no file or folder" in fails(
        capsys, "attention-profile", "--model", "test_recnext_a", *SMALL, "--images", "gone"
    )
