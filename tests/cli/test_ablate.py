"""`recnext ablate` prints published beside measured numbers and how to train each row."""

import json

import pytest

from recnext.cli.main import dispatch


def test_json(capsys) -> None:
    assert dispatch(["ablate", "--preset=384", "--mixers=[rec_3x3_conv_transpose]", "--rounds=1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["parameters"] == row["published_parameters"] == 5368616
    assert row["top1"] == 77.26
    assert "--config ablation_120e_384" in row["command"]


def test_table_and_commands(capsys) -> None:
    assert dispatch(["ablate", "--mixers=[3x3, rec_3x3_split_nearest]", "--rounds=1"]) == 0
    out = capsys.readouterr().out
    assert "74.64" in out
    assert "5,198,984" in out
    assert out.count("recnext train imagenet:IMAGENET --config ablation_120e_224") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds=0"], "--rounds is 0: expected an integer from 1"),
        (["--mixers=[rec_3x3_split]"], "256, 320 or 384"),
    ],
)
def test_mistakes(arguments, message, capsys) -> None:
    assert dispatch(["ablate", *arguments]) == 2
    assert message in capsys.readouterr().err
