"""Settings of runs that take a second, and what two equal runs have in common."""

import json
from typing import Any

import torch
from safetensors.torch import load_file

from recnext.tasks.classification.settings import TrainSettings

MEASURED = ("seconds", "images_per_second", "peak_memory_mib")  # these differ, nothing else may


def settings(**changes: Any) -> TrainSettings:
    tiny = {"model": "test_recnext_m", "image_size": 32, "epochs": 2, "batch_size": 8, "workers": 0, "device": "cpu"}
    return TrainSettings(**{**tiny, **changes})


def metrics(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in records]


def assert_same_run(left, right):
    for name in ("best", "last", "best_ema", "last_ema"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (left, right))
        assert list(first) == list(second)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert metrics(left) == metrics(right)
