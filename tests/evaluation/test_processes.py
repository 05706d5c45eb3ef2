"""One process and two give the same evaluation, to the last bit."""

import json
import os
import subprocess
import sys

import pytest
import torch

from recnext.checkpoints import load, save
from recnext.data.digits import CLASS_NAMES, write_folders


@pytest.mark.slow
def test_two_processes_evaluate_as_one(tmp_path):
    write_folders(tmp_path / "data", per_class=3)
    for number in range(3):
        next((tmp_path / "data" / "val" / str(number)).iterdir()).unlink()  # 27 images: batches of 4 do not fit
    torch.manual_seed(0)
    weights = save(load("test_recnext_m", num_classes=10), tmp_path / "a.safetensors", class_names=CLASS_NAMES)
    command = ["recnext", "eval", str(tmp_path / "data"), f"--checkpoint={weights}", "--image-size=32", "--json"]
    command += ["--batch-size=4", "--workers=0", "--device=cpu"]
    launchers = {
        1: [sys.executable, "-m"],
        2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"],
    }
    results = {}
    for count, launcher in launchers.items():
        done = subprocess.run(
            [*launcher, *command, f"--output={tmp_path / str(count)}"],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        results[count] = json.loads(done.stdout)  # one process prints
        assert results[count].pop("processes") == count
        del results[count]["images_per_second"]
    assert results[1]["images"] == 27
    assert results[1] == results[2]
    tables = [(tmp_path / str(count) / "per_class.csv").read_bytes() for count in (1, 2)]
    assert tables[0] == tables[1]
