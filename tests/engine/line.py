"""A job of another kind: its own batches, a regression."""

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.data.sampling import TrainBatches
from recnext.engine.job import Metric
from recnext.engine.settings import LoopSettings


class Points(NamedTuple):
    x: Tensor
    y: Tensor
    names: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


class LineTask:
    """y = 3 x0 - 2 x1, learnt by a linear map behind a frozen-able first one."""

    def __init__(self, model):
        self.model = model
        self.periods = 0

    def loss(self, model, batch, *, device):
        return (model(batch.x.to(device)) - batch.y.to(device)).square().mean()

    def evaluate(self, model, batches, *, device, precision, should_stop):
        assert not model.training
        self.periods += 1
        return lambda: {"r2": float(self.periods)}

    def metadata(self, epoch):
        return CheckpointMetadata(model="line", num_classes=1)


class LineJob:
    name = "line"
    settings = LoopSettings
    metrics = (Metric("r2", "R2", unit=""),)

    def __init__(self, *, dropout=0.5):
        self.dropout = dropout

    def open(self, settings, data):
        return SimpleNamespace(train=range(24), val=range(0), class_names=(), source="a line")

    def build(self, settings, splits, *, weights):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(self.dropout), nn.Linear(4, 1))
        return self.model

    def resolve(self, settings, model):
        return settings

    def task(self, settings, model, splits, accelerator):
        self.trained = LineTask(model)
        return self.trained

    def loaders(self, settings, model, splits, accelerator):
        place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
        return loader(settings.batch_size, samples=len(splits.train), **place), DataLoader([])

    def head(self, model):
        return model[2]

    def facts(self, settings, model, splits):
        return {}

    def title(self, settings):
        return "a line"

    def notes(self, settings, splits):
        return ()


def loader(batch_size, *, samples=24, **place):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 2, generator=generator)
    y = 3 * x[:, :1] - 2 * x[:, 1:]

    def collate(keys):
        index = [key.sample for key in keys]
        return Points(x[index], y[index], tuple(map(str, index)))

    class Keys(torch.utils.data.Dataset):
        def __getitem__(self, key):
            return key

        def __len__(self):
            return samples

    return DataLoader(Keys(), batch_sampler=TrainBatches(samples, batch_size=batch_size, **place), collate_fn=collate)


def settings(folder: Path, **changes):
    defaults = {"batch_size": 4, "device": "cpu", "channels_last": False, "lr": 0.05, "curves": False}
    return LoopSettings(**{**defaults, "output": str(folder), **changes})
