"""The loop with a task of another kind: its own batches, a run counted in steps, a regression."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from engine.processes import finish, fork
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.data.sampling import TrainBatches
from recnext.engine.accelerator import make_accelerator
from recnext.engine.loop import _Loop, fit
from recnext.engine.run_folder import RunFolder
from recnext.engine.settings import LoopSettings
from recnext.errors import RecNextError


class Points(NamedTuple):
    x: Tensor
    y: Tensor
    names: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


class Line:
    """y = 3 x0 - 2 x1, learnt by a linear map behind a frozen-able first one."""

    monitor = "r2"

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.periods = 0

    def loss(self, model, batch, *, device):
        return (model(batch.x.to(device)) - batch.y.to(device)).square().mean()

    def evaluate(self, model, batches, *, device, precision, should_stop):
        assert not model.training
        self.periods += 1
        return lambda: {"r2": float(self.periods)}

    def metadata(self, epoch):
        return CheckpointMetadata(model="line", num_classes=1)


def loader(batch_size, *, samples=24):
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

    place = {name: int(os.environ.get(name.upper(), default)) for name, default in (("rank", 0), ("world_size", 1))}
    order = TrainBatches(samples, batch_size=batch_size, **place)
    return DataLoader(Keys(), batch_sampler=order, collate_fn=collate)


def run(folder: Path, task=None, *, resume=False, samples=24, head=None, **changes):
    defaults = {"batch_size": 4, "device": "cpu", "channels_last": False, "lr": 0.05, "output": str(folder)}
    settings = LoopSettings(**{**defaults, **changes})
    accelerator = make_accelerator(device="cpu")
    place = RunFolder(folder, writer=accelerator.is_main_process)
    folder.mkdir(exist_ok=True)
    task = task or Line()
    return task, fit(
        task,
        train_loader=loader(settings.batch_size, samples=samples),
        val_loader=DataLoader([]),
        settings=settings,
        run=place,
        accelerator=accelerator,
        resume=resume,
        head=None if head is None else task.model[head],
    )


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Their files are for networks."""
    monkeypatch.setattr(RunFolder, "save_weights", lambda *_: None)


def test_a_run_in_steps_evaluates_every_so_many_and_crosses_epochs(tmp_path):
    task, result = run(tmp_path / "run", steps=10, evaluate_every=4)  # an epoch has six
    assert [(record["step"], record["epoch"]) for record in result.records] == [(4, 0), (8, 1), (10, 1)]
    assert task.periods == 3
    assert result.where == "step 10/10"


def test_a_run_in_steps_resumes_in_mid_period(tmp_path, monkeypatch):
    whole, first = run(tmp_path / "whole", steps=17, evaluate_every=8)
    original = _Loop.train_step

    class Killed(Exception):
        pass

    def counted(self, group):
        if self.done == 13:  # in the third epoch and the second period
            raise Killed
        return original(self, group)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "train_step", counted)
        with pytest.raises(Killed):
            run(tmp_path / "killed", steps=17, evaluate_every=8, save_every=3)
    task, second = run(tmp_path / "killed", steps=17, evaluate_every=8, save_every=3, resume=True)
    for left, right in zip(whole.model.parameters(), task.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert [record["train_loss"] for record in second.records] == [record["train_loss"] for record in first.records]


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    """Without anything random or normalised in the network, to float32's precision."""
    weights = []
    for batch_size, accumulate in ((8, 1), (4, 2), (2, 4)):
        task = Line()
        task.model[1] = nn.Identity()
        _, result = run(tmp_path / f"{batch_size}", task, epochs=3, batch_size=batch_size, accumulate=accumulate)
        assert [record["step"] for record in result.records] == [3, 6, 9]
        weights.append(torch.cat([parameter.detach().flatten() for parameter in task.model.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-4, atol=1e-5)


def test_two_ranks_learn_what_one_does_with_both_batches(tmp_path):
    """Gradients are averaged over processes, once a step, whatever is accumulated."""

    def trained(folder, batch_size):
        task = Line()
        task.model[1] = nn.Identity()
        return run(folder, task, epochs=2, batch_size=batch_size, accumulate=2)[1]

    assert finish(fork(lambda: trained(tmp_path / "two", 2), ranks=2)) == [0, 0]
    trained(tmp_path / "one", 4)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two"))
    for key, value in one["model"].items():
        torch.testing.assert_close(two["model"][key], value, rtol=1e-5, atol=1e-6)
    for left, right in zip(one["records"], two["records"], strict=True):
        assert left["train_loss"] == pytest.approx(right["train_loss"], rel=1e-5)
        assert left["step"] == right["step"]


def test_more_batches_to_accumulate_than_an_epoch_has(tmp_path):
    with pytest.raises(RecNextError, match="--accumulate is 7, an epoch has 6 batches of 4"):
        run(tmp_path / "run", accumulate=7)


def test_head_first(tmp_path):
    task = Line()
    before = [parameter.detach().clone() for parameter in task.model.parameters()]
    run(tmp_path / "frozen", task, epochs=1, freeze_epochs=1, head=2)
    after = [parameter.detach().clone() for parameter in task.model.parameters()]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[2], after[2])
    task, _ = run(tmp_path / "thawed", epochs=2, freeze_epochs=1, head=2)
    assert not torch.equal(after[0], task.model[0].weight)


def test_learning_rate_falls_after_the_milestones_with_warm_up_in_steps(tmp_path, monkeypatch):
    """MMDetection's step schedule with linear warm-up from a ratio, written out."""
    rates = []
    original = _Loop.train_step

    def recorded(self, group):
        result = original(self, group)
        rates.append(self.lr)
        return result

    monkeypatch.setattr(_Loop, "train_step", recorded)
    options = {"schedule": "multistep", "milestones": (2, 3), "warmup_steps": 4, "warmup_ratio": 1e-3}
    run(tmp_path / "run", epochs=4, **options)
    expected = []
    for step in range(24):
        lr = 0.05 * 0.1 ** sum(step // 6 >= milestone for milestone in (2, 3))
        expected.append(lr * (1 - (1 - step / 4) * (1 - 1e-3)) if step < 4 else lr)
    assert rates == pytest.approx(expected, rel=1e-12)


def test_clipping_by_the_norm_of_all_gradients(tmp_path, monkeypatch):
    norms = []
    original = torch.optim.AdamW.step

    def recorded(self, *args, **kwargs):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    run(tmp_path / "run", epochs=1, clip="norm", clip_value=0.1)
    assert norms == pytest.approx([0.1] * 6, rel=1e-4)


def test_tensorboard_has_the_numbers_of_every_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    folder.mkdir()
    accelerator = make_accelerator(device="cpu", tracker="tensorboard", folder=folder)
    settings = LoopSettings(device="cpu", epochs=2, batch_size=4, channels_last=False, tracker="tensorboard", lr=0.01)
    result = fit(
        Line(),
        train_loader=loader(4),
        val_loader=DataLoader([]),
        settings=settings,
        run=RunFolder(folder),
        accelerator=accelerator,
    )
    events = EventAccumulator(str(folder / "recnext"))
    events.Reload()
    logged = events.Scalars("train_loss")
    assert [event.step for event in logged] == [6, 12]
    assert [event.value for event in logged] == pytest.approx([record["train_loss"] for record in result.records])
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[1])["step"] == 12
