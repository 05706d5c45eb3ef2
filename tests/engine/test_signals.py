"""Real signals, to processes of their own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from engine.processes import finish, start
from engine.runs import settings


@pytest.mark.slow
def test_sigterm_to_the_command_exits_143_with_one_line(digit_folders, tmp_path):
    folder = tmp_path / "run"
    command = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "recnext",
                "train",
                str(digit_folders),
                "--model=test_recnext_m",
                "--image-size=32",
            ),
            *("--batch-size=8", "--epochs=500", "--workers=1", "--device=cpu", "--save-every=1", f"--output={folder}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "state.pt").exists():
        assert command.poll() is None
        time.sleep(0.01)
    command.send_signal(signal.SIGTERM)
    output, errors = command.communicate(timeout=120)
    assert command.returncode == 143
    assert errors == ""
    assert "--resume goes on from there" in output.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_rank_stops_both_with_its_code(digit_folders, tmp_path, number):
    folder = tmp_path / "run"
    chosen = settings(output=str(folder), epochs=500, save_every=1, batch_size=4)
    ranks = start(chosen, data=digit_folders, ranks=2)
    while not (folder / "state.pt").exists():
        assert ranks[0].exitcode is None
        time.sleep(0.01)
    os.kill(ranks[1].pid, number)
    assert finish(ranks) == [128 + number, 128 + number]
