from typing import Any, Literal, Optional, Union

import pytest
from jsonargparse import auto_cli

from recnext.cli.parser import Parser, given_arguments


def run(
    images: list[str], *, batch_size: int = 8, json: bool = False, model_args: Optional[dict[str, Any]] = None
) -> tuple:
    """Does it."""
    return images, batch_size, json, model_args


def parse(*arguments: str) -> tuple:
    return auto_cli(run, args=list(arguments), as_positional=True, parser_class=Parser)


def test_dashes_and_underscores_are_the_same():
    assert parse("a", "--batch-size", "3") == parse("a", "--batch_size=3") == (["a"], 3, False, None)
    assert parse("a", "--model-args", '{"depths": [1, 2]}')[3] == {"depths": [1, 2]}


def test_switches_take_no_value():
    assert parse("--json", "a", "b") == (["a", "b"], 8, True, None)
    assert parse("a", "--json", "--no-json")[2] is False


def test_switches_in_a_config_file(tmp_path):
    (tmp_path / "c.yaml").write_text("json: true\nbatch_size: 2\nimages: [x]\n")
    assert parse("--config", str(tmp_path / "c.yaml")) == (["x"], 2, True, None)


def test_help_shows_dashes(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "--batch-size" in capsys.readouterr().out


def going_on(images: list[str], *, resume: Union[bool, Literal["auto"]] = False, batch_size: int = 8) -> tuple:
    """Does it."""
    return images, resume, batch_size, given_arguments()


@pytest.mark.parametrize(
    ("arguments", "resume", "images"),
    [
        (["a"], False, ["a"]),
        (["--resume", "a"], True, ["a"]),
        (["--resume", "auto", "a"], "auto", ["a"]),
        (["--resume=auto", "a", "auto"], "auto", ["a", "auto"]),
        (["a", "--resume"], True, ["a"]),
    ],
)
def test_a_switch_that_takes_a_word(arguments, resume, images):
    result = auto_cli(going_on, args=arguments, as_positional=True, parser_class=Parser)
    assert result[:2] == (images, resume)


def test_what_was_given_is_known_even_where_it_is_the_default(tmp_path):
    (tmp_path / "c.yaml").write_text("resume: auto\n")
    for arguments, given in (
        (["a", "--batch-size=8"], {"images", "batch_size"}),
        (["a"], {"images"}),
        (["a", "--config", str(tmp_path / "c.yaml")], {"images", "resume"}),
    ):
        assert auto_cli(going_on, args=arguments, as_positional=True, parser_class=Parser)[3] - {"config"} == given
