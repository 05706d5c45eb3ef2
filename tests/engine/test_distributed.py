"""Two processes, on the CPU with gloo."""

import json
import subprocess
import sys

import pytest
import torch

from engine.processes import finish, start
from engine.runs import settings
from recnext.checkpoints import load, save


@pytest.mark.slow
def test_torchrun_prints_once_and_counts_the_batch_of_both(digit_folders, tmp_path):
    folder = tmp_path / "run"
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recnext"),
            *("train", str(digit_folders), "--model=test_recnext_m", "--image-size=32", "--epochs=2", "--no-curves"),
            *("--batch-size=8", "--workers=0", "--device=cpu", "--lr=0.01", f"--output={folder}"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout.count("epoch 2/2") == 1
    assert launched.stdout.count("best top-1") == 1
    assert "batch 16 → lr 0.01" in launched.stdout
    assert "2 processes" in launched.stdout
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 4


def test_a_frozen_backbone_thaws_on_both_ranks(digit_folders, tmp_path):
    path = save(load("test_recnext_m", num_classes=10), tmp_path / "start.safetensors")
    options = {"checkpoint": str(path), "epochs": 2, "freeze_epochs": 1, "accumulate": 2, "batch_size": 4, "keep": 2}
    assert finish(start(settings(output=str(tmp_path / "run"), **options), data=digit_folders, ranks=2)) == [0, 0]
    before = load(checkpoint=path).state_dict()
    frozen, thawed = (
        torch.load(tmp_path / "run" / "states" / f"epoch_000{epoch}.pt", weights_only=True)["model"] for epoch in (1, 2)
    )
    changed = {key for key in before if not torch.equal(before[key], frozen[key])}
    assert changed
    assert all(key.startswith("head") for key in changed)
    assert not torch.equal(before["stem.stem.0.conv.weight"], thawed["stem.stem.0.conv.weight"])
