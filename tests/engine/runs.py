"""Settings of runs that take a second, jobs that fail, and what two equal runs have in common."""

import json
import os
from typing import Any

import torch
from safetensors.torch import load_file

from recnext.tasks.classification.settings import TrainSettings

MEASURED = ("seconds", "images_per_second", "peak_memory_mib")  # these differ, nothing else may


def settings(**changes: Any) -> TrainSettings:
    tiny = {"model": "test_recnext_m", "image_size": 32, "epochs": 2, "batch_size": 8, "workers": 0, "device": "cpu"}
    return TrainSettings(**{**tiny, "curves": False, **changes})


def metrics(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in records]


def assert_same_run(left, right):
    names = {path.name for path in left.glob("*.safetensors")}
    assert names == {path.name for path in right.glob("*.safetensors")}
    for name in names:
        first, second = (load_file(folder / name) for folder in (left, right))
        assert list(first) == list(second)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert metrics(left) == metrics(right)


class Killed(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def killed_at(number: int):
    """An `on_step` that ends the run after a step, counted from its end where `number` is negative."""

    def kill(step):
        if step.number == (number if number > 0 else step.total + number):
            raise Killed

    return kill


def infinite(loss, batch):
    """A way to spoil the loss."""
    return loss / 0


class SpoiltJob:
    """A job whose losses go through a function.

    Args:
        job: the real one.
        spoil: of the loss and the batch; may raise.
        rank: spoil those of this process alone.
    """

    def __init__(self, job, spoil, *, rank=None):
        self.job, self.spoil, self.rank = job, spoil, rank
        self.name, self.settings, self.metrics = job.name, job.settings, job.metrics

    def __getattr__(self, name):
        if name == "job":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.job, name)

    def task(self, *arguments):
        task = self.job.task(*arguments)
        if self.rank is None or os.environ.get("RANK") == str(self.rank):
            loss = task.loss
            task.loss = lambda model, batch, *, device: self.spoil(loss(model, batch, device=device), batch)
        return task
