"""`recnext laws` prints, draws and tells mistakes in one line."""

import json

import pytest

from recnext.cli.main import dispatch


def test_json(capsys) -> None:
    assert dispatch(["laws", "--levels=2", "--channels=4", "--size=8", "--rounds=1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["receptive_field"] for row in data["laws"]] == [5, 10, 20]
    assert [row["support"] for row in data["laws"]] == [5, 19, 49]
    assert [row["recconv"]["parameters"] for row in data["laws"]] == [200, 300, 400]
    assert [row["plain"]["macs"] for row in data["laws"]] == [6400 * 4**level for level in range(3)]
    assert all(row[side]["seconds"] > 0 for row in data["laws"] for side in ("recconv", "plain"))
    assert "4 channels, 8x8, bilinear" in data["setting"]


def test_table_and_picture(capsys, tmp_path) -> None:
    picture = tmp_path / "laws.png"
    arguments = ["laws", "--levels=1", "--channels=2", "--size=8", "--rounds=1", f"--output={picture}"]
    assert dispatch(arguments) == 0
    assert "At l = 1 the plain convolution takes 1.33 times the parameters" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel=4"], "--kernel is 4: expected an odd integer"),
        (["--size=16"], "--size is 16: expected at least 32 pixels to halve 5 times"),
        (["--levels=-1"], "--levels is -1: expected an integer from 0"),
        (["--levels=8", "--size=256"], "expected 7 at most"),
        (["--threads=0"], "--threads is 0: expected an integer from 1"),
    ],
)
def test_mistakes(arguments, message, capsys) -> None:
    assert dispatch(["laws", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
