import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.command import fails
from recnext.cli.demo import next_commands


def in_a_process(folder: Path, *arguments: str) -> str:
    """What `recnext ...` prints, as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "recnext", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_demo_reaches_the_promised_accuracy_and_its_next_commands_work(tmp_path):
    printed = in_a_process(tmp_path, "demo")
    folder = tmp_path / "runs" / "demo"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["top1"] >= 98.5
    assert f"{summary['best']['top1']:.2f} %" in printed
    assert float(re.search(r"logits differ by (\S+)", printed)[1]) < 1e-4
    for name in ("curves", "confusion", "samples"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 300
    assert {"best.safetensors", "fused.safetensors", "per_class.csv"} <= {path.name for path in folder.iterdir()}
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  recnext ")]
    assert commands == list(next_commands(folder.relative_to(tmp_path)))
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "recnext"
        in_a_process(tmp_path, *arguments)


def test_demo_never_replaces_another_run(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("settings: {model: recnext_m1}\ndata: photos\n")
    (tmp_path / "state.pt").write_bytes(b"weeks of work")
    assert "holds a run on photos" in fails(capsys, "demo", "--output", tmp_path)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    assert "holds files of no demo" in fails(capsys, "demo", "--output", tmp_path / "mine")
    assert (tmp_path / "state.pt").read_bytes() == b"weeks of work"
    assert (tmp_path / "config.yaml").exists()
