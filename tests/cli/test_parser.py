from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

import pytest

from recnext.cli.parser import _kind, run_command
from recnext.errors import RecNextError


def run(
    images: list[str], *, batch_size: int = 8, json: bool = False, model_args: Optional[dict[str, Any]] = None
) -> tuple:
    """Does it."""
    return images, batch_size, json, model_args


def parse(*arguments: str) -> tuple:
    return run_command(run, arguments, command="recnext run")


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


def resuming(images: list[str], *, resume: Union[bool, Literal["auto"]] = False, batch_size: int = 8) -> tuple:
    """Does it."""
    return images, resume


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
    assert run_command(resuming, arguments, command="recnext run") == (images, resume)


@dataclass
class Settings:
    """What can be set.

    Args:
        epochs: of training.
        lr: of each step.
    """

    epochs: int = 3
    lr: float = 0.1


def given(data: str, **settings: Any) -> dict[str, Any]:
    """Does it."""
    Settings(**settings)
    return settings


def test_only_what_was_given_reaches_the_function_even_where_it_is_the_default(tmp_path):
    (tmp_path / "c.yaml").write_text("lr: 0.5\n")
    for arguments, settings in (
        (["a", "--epochs=3"], {"epochs": 3}),
        (["a"], {}),
        (["a", "--config", str(tmp_path / "c.yaml")], {"lr": 0.5}),
        (["a", "--config", str(tmp_path / "c.yaml"), "--lr=0.2"], {"lr": 0.2}),
    ):
        assert run_command(given, arguments, command="recnext run") == settings


def test_numbers_beyond_64_bits():
    with pytest.raises(RecNextError, match="--batch-size is 18446744073709551616: expected a number of 64 bits"):
        parse("a", f"--batch-size={2**64}")
    with pytest.raises(RecNextError, match="--model-args is 184"):
        parse("a", f'--model-args={{"depths": [1, {2**64}]}}')


def test_an_argument_whose_type_jsonargparse_no_longer_tells():
    assert _kind({"action": object(), "type": int}) is int
    assert _kind({"action": object()}) is None
