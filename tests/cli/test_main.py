import subprocess
import sys
from importlib.util import find_spec

import pytest

from cli.command import fails, run
from recnext._version import __version__
from recnext.cli import main
from recnext.cli.main import COMMANDS

HEAVY = ("torch", "timm", "numpy", "PIL", "torchvision", "rich", "jsonargparse", "huggingface_hub")


def python(code):
    return subprocess.run([sys.executable, "-X", "importtime", *code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments):
    done = python(["-m", "recnext", *arguments])
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "recnext" in imported
    assert imported.isdisjoint(HEAVY)
    assert __version__ in done.stdout


def test_list_needs_no_torch():
    done = python(["-m", "recnext", "list"])
    assert "recnext_m1" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"torch", "timm"})


def test_help_names_every_command(capsys):
    status, out, err = run(capsys, "--help")
    assert (status, err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name}" in out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_tells_its_options(name, capsys):
    assert find_spec(f"recnext.cli.{name.replace('-', '_')}")
    status, out, _ = run(capsys, name, "--help")
    assert status == 0
    assert out.startswith(f"usage: recnext {name}")


def test_unknown_commands(capsys):
    assert fails(capsys, "predct") == "unknown command 'predct': did you mean 'predict'?"
    assert fails(capsys, "xyzzy") == "unknown command 'xyzzy': recnext --help lists the commands"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--nonsense"],
        ["info"],
        ["predict"],
        ["predict", "x.png", "--topk", "many"],
        ["fuse", "only-one"],
        ["convert", "a", "b", "c"],
    ],
)
def test_wrong_flags_exit_with_2_and_no_traceback(arguments, capsys):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"usage: recnext {arguments[0]}")
    assert "error: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("module", ["recnext.models", "recnext.cli.info"])
def test_interrupted_while_it_starts(module, capsys, monkeypatch):
    def interrupted(name):
        if name == module:
            raise KeyboardInterrupt

    monkeypatch.setattr(main, "import_module", interrupted)
    assert fails(capsys, "info", "recnext_m1", status=130) == "interrupted"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 1, "x.png: No such file or directory"),
        (OSError(28, "No space left on device", "out"), 1, "out: No space left on device"),
    ],
)
def test_other_failures_are_one_line(error, status, message, capsys, monkeypatch):
    def failing():
        raise error

    class Module:
        run = staticmethod(failing)

    real = main.import_module
    monkeypatch.setattr(main, "import_module", lambda name: Module if name == "recnext.cli.list" else real(name))
    assert fails(capsys, "list", status=status) == message
