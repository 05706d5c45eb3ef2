"""Run folders of strangers: whatever their files hold, eval, report and a resumed training print one line."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digits_run import train_digits
from recnext.cli.main import dispatch

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_digits(tmp_path_factory.mktemp("run")).resolve()


def paths_of(content: Any, place: tuple = ()) -> list[tuple]:
    """Where in nested dictionaries and lists a value stands."""
    found = [place]
    for key, value in content.items() if isinstance(content, dict) else ():
        found += paths_of(value, (*place, key))
    return found


def put(content: Any, place: tuple, value: Any) -> Any:
    if not place:
        return value
    return {**content, place[0]: put(content[place[0]], place[1:], value)}


@pytest.mark.parametrize("command", ["train --resume", "report", "eval"])
def test_config_of_any_content(run_folder: Path, command: str, tmp_path: Path):
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    data = str(config["data"])
    places = [
        place
        for place in paths_of(config)
        if place and place[0] in ("settings", "class_names", "input", "data", "task")
    ]

    @settings(max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(places), ODD)
    def try_one(place: tuple, value: Any) -> None:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(run_folder, run)
        (run / "config.yaml").write_text(yaml.safe_dump(put(config, place, value)))
        lines = {
            "train --resume": ["train", data, "--output", str(run), "--resume"],
            "report": ["report", str(run), "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "r.html")],
            "eval": ["eval", str(tmp_path / "nowhere"), "--checkpoint", str(run)],
        }
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
            status = dispatch(lines[command])  # what is not a RecNextError or an OSError escapes, and fails the test
        if status:
            said = error.getvalue().splitlines()
            assert said[-1].startswith("recnext: error: "), (place, value, said)

    try_one()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "a: b: c", "\x00", "- 1\n- 2", "&a [*a]", "\ufffe", json.dumps("x")]
)
def test_config_that_is_none(run_folder: Path, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "config.yaml").write_text(text)
    for command in (["report", str(run)], ["train", "DATA", "--output", str(run), "--resume"]):
        assert dispatch(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
