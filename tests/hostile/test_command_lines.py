"""Command lines nobody would type: whatever they hold, a command that fails prints one line and changes nothing."""

import io
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonargparse import auto_parser

from recnext.cli.main import dispatch
from recnext.cli.parser import Parser

NOWHERE = "no/such/place"
# commands, with the input that keeps each from real work
COMMANDS = {
    "train": (NOWHERE,),
    "eval": (NOWHERE, "--checkpoint", NOWHERE),
    "predict": (NOWHERE, "--checkpoint", NOWHERE),
    "embed": (NOWHERE, "--checkpoint", NOWHERE),
    "report": (NOWHERE,),
    "plot": (NOWHERE,),
    "publish": (NOWHERE,),
    "fuse": (NOWHERE, NOWHERE),
    "convert": (NOWHERE, NOWHERE),
    "export": (NOWHERE,),
    "explain": (NOWHERE, "--checkpoint", NOWHERE),
    "serve": ("--checkpoint", NOWHERE),
    "data check": (NOWHERE,),
    "detect train": (NOWHERE,),
    "detect eval": (NOWHERE, "--checkpoint", NOWHERE),
    "segment train": (NOWHERE,),
    "segment predict": (NOWHERE, "--checkpoint", NOWHERE),
}
VALUES = [
    *("", " ", "-1", "0", "1000000", str(2**64), "1e309", "nan", "-inf", "null", "true", "[1, [2]]", "{a: {b: 1}}"),
    *("&a [*a]", "!!python/object/apply:os.system [id]", "{class_path: os.system, init_args: {command: id}}"),
    *(
        "/dev/null",
        "/dev/full",
        "../..",
        "~",
        "café\udcff",
        "\x1b[2J\x1b]0;x\x07",
        "[bold]",
        "=1+1",
        "%s%n{0}",
        "x" * 9999,
    ),
    *(
        "wds:pipe:id",
        "tar:http://127.0.0.1:1/",
        "hfds:none",
        "hf-hub:none/none",
        "imagenet:",
        "cuda:99",
        "rand-m9-mstd",
    ),
]


def flags_of(command: str) -> list[str]:
    """The long flags of a command, --help and what prints and ends aside."""
    name, _, sub = command.partition(" ")
    run: Any = import_module(f"recnext.cli.{name}").run
    parser = auto_parser(run[sub] if sub else run, as_positional=True, parser_class=Parser, prog="recnext")
    names = [text for action in parser._actions for text in action.option_strings if text.startswith("--")]
    return [name for name in names if name not in ("--help", "--print_config", "--print-config")]


@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_and_no_traceback(command: str, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    arguments = st.lists(st.tuples(st.sampled_from(flags_of(command)), st.sampled_from(VALUES)), max_size=3)

    @settings(max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(arguments)
    def try_one(given_flags: list[tuple[str, str]]) -> None:
        line = [*command.split(), *COMMANDS[command], *(text for pair in given_flags for text in pair)]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
            status = dispatch(line)
        lines = error.getvalue().splitlines()
        assert status in (1, 2), line
        assert lines[-1].startswith("recnext: error: "), (line, lines)
        assert len(lines) == 1, (line, lines)
        assert "\x1b" not in error.getvalue()

    try_one()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
