"""The loop with a job of another kind: a run counted in steps, accumulation, schedules, head first, clipping."""

import json
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from engine.line import LineJob, settings
from engine.processes import finish, start
from engine.runs import Killed, killed_at
from recnext.engine.run import train
from recnext.errors import RecNextError


def run(folder: Path, job=None, *, on_step=lambda step: None, **changes):
    job = job or LineJob()
    return job, train(job, settings(folder, **changes), data=None, on_step=on_step)


def test_a_run_in_steps_evaluates_every_so_many_and_crosses_epochs(tmp_path):
    job, result = run(tmp_path / "run", steps=10, evaluate_every=4)  # an epoch has six
    assert [(record["step"], record["epoch"]) for record in result.records] == [(4, 0), (8, 1), (10, 1)]
    assert job.trained.periods == 3
    assert result.where == "step 10/10"


def test_a_run_in_steps_resumes_in_mid_period(tmp_path):
    whole, first = run(tmp_path / "whole", steps=17, evaluate_every=8)

    with pytest.raises(Killed):  # in the third epoch and the second period
        run(tmp_path / "killed", on_step=killed_at(13), steps=17, evaluate_every=8, save_every=3)
    again, second = run(tmp_path / "killed", steps=17, evaluate_every=8, save_every=3, resume=True)
    for left, right in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert [record["train_loss"] for record in second.records] == [record["train_loss"] for record in first.records]


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    """Without anything random or normalised in the network, to float32's precision."""
    weights = []
    for batch_size, accumulate in ((8, 1), (4, 2), (2, 4)):
        options = {"epochs": 3, "batch_size": batch_size, "accumulate": accumulate}
        job, result = run(tmp_path / f"{batch_size}", LineJob(dropout=0), **options)
        assert [record["step"] for record in result.records] == [3, 6, 9]
        weights.append(torch.cat([parameter.detach().flatten() for parameter in job.model.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-4, atol=1e-5)


def test_two_ranks_learn_what_one_does_with_both_batches(tmp_path):
    """Gradients are averaged over processes, once a step, whatever is accumulated."""
    options = {"epochs": 2, "accumulate": 2}
    chosen = settings(tmp_path / "two", batch_size=2, **options)
    assert finish(start(chosen, data=None, job=LineJob(dropout=0), ranks=2)) == [0, 0]
    run(tmp_path / "one", LineJob(dropout=0), batch_size=4, **options)
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
    job, _ = run(tmp_path / "frozen", epochs=1, freeze_epochs=1)
    before = LineJob().build(None, None, weights=True).state_dict()
    after = {key: value.clone() for key, value in job.model.state_dict().items()}
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["2.weight"], after["2.weight"])
    job, _ = run(tmp_path / "thawed", epochs=2, freeze_epochs=1)
    assert not torch.equal(after["0.weight"], job.model[0].weight)


def test_learning_rate_falls_after_the_milestones_with_warm_up_in_steps(tmp_path):
    """MMDetection's step schedule with linear warm-up from a ratio, written out."""
    rates = []
    options = {"schedule": "multistep", "milestones": (2, 3), "warmup_steps": 4, "warmup_ratio": 1e-3}
    run(tmp_path / "run", on_step=lambda step: rates.append(step.lr), epochs=4, **options)
    expected = []
    for step in range(24):
        lr = 0.05 * 0.1 ** sum(step // 6 >= milestone for milestone in (2, 3))
        expected.append(lr * (1 - (1 - step / 4) * (1 - 1e-3)) if step < 4 else lr)
    assert rates == pytest.approx(expected, rel=1e-12)


def test_clipping_by_the_norm_of_all_gradients(tmp_path):
    norms = []

    def record(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())

    hook = register_optimizer_step_pre_hook(record)
    run(tmp_path / "run", epochs=1, clip="norm", clip_value=0.1)
    hook.remove()
    assert norms == pytest.approx([0.1] * 6, rel=1e-4)


def test_tensorboard_has_the_numbers_of_every_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    _, result = run(folder, epochs=2, tracker="tensorboard", lr=0.01)
    events = EventAccumulator(str(folder / "recnext"))
    events.Reload()
    logged = events.Scalars("train_loss")
    assert [event.step for event in logged] == [6, 12]
    assert [event.value for event in logged] == pytest.approx([record["train_loss"] for record in result.records])
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[1])["step"] == 12
