"""Two processes under torchrun, on the CPU with gloo."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from recnext.checkpoints import load
from recnext.evaluation.classifier import evaluate_classifier, open_for, preparation_of


@pytest.mark.slow
def test_two_processes_train_one_model_and_evaluate_each_image_once(digit_folders, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(digit_folders, data)
    next((data / "val" / "0").iterdir()).unlink()  # 39 images: not divisible by two
    folder = tmp_path / "run"
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recnext"),
            *("train", str(data), "--model=test_recnext_m", "--image-size=32", "--epochs=2"),
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
    model = load(checkpoint=folder / "last.safetensors")
    alone = evaluate_classifier(
        model,
        open_for(model, data, checkpoint="last"),
        preparation=preparation_of(model),
        num_classes=10,
        device=torch.device("cpu"),
        workers=0,
    )
    assert alone.images == 39
    assert last["top1"] == pytest.approx(alone.top1, abs=1e-4)
    assert last["val_loss"] == pytest.approx(alone.loss, rel=1e-4)
