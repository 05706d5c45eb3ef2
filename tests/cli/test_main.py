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
    ("arguments", "line"),
    [
        (["list", "--nonsense"], "unknown option --nonsense: recnext list --help lists the options"),
        (["train", "D", "--modle", "recnext_m1"], "unknown option --modle: did you mean --model?"),
        (["train", "D", "--batch-size", "x"], "--batch-size is x: expected an integer"),
        (["train", "D", "--drop-path", "x"], "--drop-path is x: expected published or a number"),
        (["train", "D", "--schedule", "x"], "--schedule is x: expected cosine or epoch_cosine or multistep or poly"),
        (["train", "D", "--milestones", "5"], "--milestones is 5: expected a list such as [8, 11]"),
        (["train", "D", "--model-args", "x"], "--model-args is x: expected a mapping as JSON"),
        (["train", "D", "--resume", "x"], "unexpected argument 'x': recnext train --help tells what it takes"),
        (["info"], "no model given: recnext info --help tells what it takes"),
        (["detect", "train"], "no data given: recnext detect --help tells what it takes"),
        (["data"], "no subcommand given: expected recnext data check|index"),
        (["data", "chek"], "unknown subcommand 'chek': expected recnext data check|index"),
        (["data", "check", "D", "--few", "x"], "--few is x: expected an integer"),
        (["predict", "x.png", "--topk", "many"], "--topk is many: expected an integer"),
        (["fuse", "only-one"], "no output given: recnext fuse --help tells what it takes"),
        (["convert", "a", "b", "c"], "unexpected argument 'c': recnext convert --help tells what it takes"),
        (
            ["train", "D", "--model"],
            "argument --model: expected one argument (recnext train --help tells what it takes)",
        ),
    ],
)
def test_a_wrong_command_line_takes_one_line(arguments, line, capsys):
    assert fails(capsys, *arguments) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epochss: 3", "unknown setting 'epochss' in the configuration: did you mean epochs?"),
        ("epochs: three", "--epochs is three: expected an integer"),
    ],
)
def test_so_does_a_wrong_configuration(text, line, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    assert fails(capsys, "train", "D", "--config", tmp_path / "c.yaml") == line


def test_a_damaged_configuration_takes_one_line(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("epochs: [3")
    assert "parsing a flow sequence" in fails(capsys, "train", "D", "--config", tmp_path / "c.yaml")


@pytest.mark.parametrize("module", ["recnext.nn.models", "recnext.cli.info"])
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


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "D"],
        ["eval", "D", "--checkpoint", "x"],
        ["segment", "eval", "D", "--checkpoint", "x"],
        ["detect", "train", "D"],
        ["data", "check", "D"],
        ["report", "r"],
        ["embed", "D", "--output", "e.parquet"],
    ],
)
def test_a_million_workers_are_a_slip(arguments, capsys):
    assert "1000000: expected" in fails(capsys, *arguments, "--workers=1000000").replace(",", "")


def test_a_recipe_that_is_no_utf8_or_grows_without_end(tmp_path, capsys):
    (tmp_path / "u.yaml").write_bytes(b"model: \xff\xfe\n")
    assert "is no UTF-8 text (byte 7)" in fails(capsys, "train", "D", "--config", tmp_path / "u.yaml")
    aliases = (f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8))
    (tmp_path / "r.yaml").write_text("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(aliases))
    assert "more than 100,000 entries" in fails(capsys, "train", "D", "--config", tmp_path / "r.yaml")
    (tmp_path / "s.yaml").write_text("a: &a {b: *a}\n")
    assert "contains itself" in fails(capsys, "train", "D", "--config", tmp_path / "s.yaml")
    (tmp_path / "l.yaml").write_text("just text\n")
    assert "holds no settings" in fails(capsys, "train", "D", "--config", tmp_path / "l.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xef\xbb\xbfepochs: three\r\n")
    assert fails(capsys, "train", "D", "--config", tmp_path / "b.yaml") == "--epochs is three: expected an integer"


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "x\x1b[31m.png", "\u202ex", "a\nb"])
def test_error_lines_hold_no_escape_sequences(name, capsys):
    for arguments in (["train", name], ["eval", "D", "--checkpoint", name], ["info", name], [name], ["list", name]):
        status, _, err = run(capsys, *arguments)
        assert status
        assert not any(character in err for character in "\x1b\x07\u202e")
        assert err.count("\n") == 1


def test_sizes_that_no_memory_holds(capsys):
    for flag in ("--kernel=2147483647", "--size=100000000"):
        assert fails(capsys, "laws", flag, status=1).startswith("not enough memory, smaller images, batches")
