import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text

from recnext.screen import Screen, bold


def test_names_are_printed_as_they_are(capsys):
    table = Table("[bad]cat", title="r[v2]/mine :smile:")
    table.add_row("object [/b]")
    table.add_row("\x1b]0;owned\x07")
    table.add_row(bold("[x]\x1b"))
    screen = Screen()
    screen.print(table)
    screen.print("[red]" + "long " * 40, "\x1b[2J", Text("[z]"))
    out = capsys.readouterr().out
    for text in ("[bad]cat", "r[v2]/mine :smile:", "object [/b]", "\\x1b]0;owned\\x07", "[x]\\x1b", "\\x1b[2J [z]"):
        assert text in out
    assert "\x1b" not in out
    assert "[red]" + "long " * 40 in out  # not wrapped


def command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "recnext", *arguments], capture_output=True, check=False, **options)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_streams_that_cannot_hold_the_output(encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = command("list", "--pattern", "日本")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode(encoding).startswith("recnext: error: no network fits '\\u65e5\\u672c'")
    code = "import sys\nfrom recnext._startup import prepare_process\nprepare_process()\nprint('1 → 2 ± 3 caf\\udce9')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode(encoding).replace("±", "+-").strip() == "1 -> 2 +- 3 caf\\udce9"


def test_warnings_of_other_packages_stay_away():
    code = (
        "import logging, sys, warnings\nfrom recnext._startup import prepare_process\nprepare_process()\n"
        "warnings.warn('raw')\nlogging.getLogger('timm').warning('raw')\nlogging.getLogger('recnext.x').warning('a\\x1bb')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b"recnext: a\\x1bb\n"


@pytest.mark.parametrize("arguments", ["list", "--help", "list --json"])
def test_a_closed_pipe_is_no_error(arguments):
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m recnext {arguments} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout.strip() in (b"0", b"141")  # as it may have been in time


def test_a_closed_stdout():
    done = subprocess.run(["bash", "-c", f"'{sys.executable}' -m recnext list >&-"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
