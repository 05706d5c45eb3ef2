"""Kills at random moments, as often as RECNEXT_KILLS says: the run ends bit for bit as the one that nobody killed."""

import os
import random
import time
from pathlib import Path

import pytest

from engine.processes import finish, start
from engine.runs import assert_same_run, settings

KILLS = int(os.environ.get("RECNEXT_KILLS", "2"))


@pytest.mark.slow
def test_killed_at_random(digit_folders: Path, tmp_path: Path):
    options = {"batch_size": 4, "epochs": 2 + KILLS // 10, "save_every": 1, "ema": True, "curves": False, "workers": 0}
    assert finish(start(settings(output=str(tmp_path / "unharmed"), **options), data=digit_folders)) == [0]
    moments = random.Random(0)
    killed = 0
    while killed < KILLS:
        (process,) = start(settings(output=str(tmp_path / "killed"), resume="auto", **options), data=digit_folders)
        time.sleep(moments.uniform(0.3, 2.0))
        if not process.is_alive():
            break  # it was done before
        process.kill()
        process.join()
        killed += 1
    assert finish(start(settings(output=str(tmp_path / "killed"), resume="auto", **options), data=digit_folders)) == [0]
    assert_same_run(tmp_path / "unharmed", tmp_path / "killed")
