"""Running the command in this process."""

import json

from recnext.cli.main import dispatch


def run(capsys, *arguments) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)."""
    try:
        status = dispatch([str(argument) for argument in arguments])
    except SystemExit as left:  # argparse
        status = int(left.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def run_json(capsys, *arguments):
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def fails(capsys, *arguments, status=2) -> str:
    """The one line that a command that fails prints."""
    actual, out, err = run(capsys, *arguments)
    assert actual == status, err
    assert out == ""
    err = err.lstrip()  # PyTorch 2.9's exporter begins with an empty line
    assert err.startswith("recnext: error: "), err
    assert err.count("\n") == 1
    return err.removeprefix("recnext: error: ").strip()
