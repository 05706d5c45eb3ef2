"""FSDP: a run whose processes share the weights out is the run whose processes hold them all (two gloo ranks)."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from timm.optim import create_optimizer_v2

from engine.processes import finish, kill_after_save, start
from engine.runs import assert_same_run, metrics, settings
from recnext.engine.sharding import enable_sharding
from recnext.errors import RecNextError

OPTIONS = {
    "batch_size": 4,
    "accumulate": 2,
    "lr": 0.01,
    "ema": True,
    "ema_decay": 0.9,
    "mixup": 0.8,
    "drop_path": 0.2,
    "save_every": 1,
    "keep": 2,
}


@pytest.fixture
def sharded(monkeypatch):
    """What `accelerate launch --use_fsdp` puts into the environment."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    monkeypatch.setenv("FSDP_TRANSFORMER_CLS_TO_WRAP", "RecConvBlock")


@pytest.mark.slow
@pytest.mark.parametrize("clip", [("agc", 0.02), ("norm", 0.5)], ids=["agc", "norm"])
def test_shards_learn_what_whole_networks_learn(digit_folders, tmp_path, monkeypatch, request, clip):
    def momentum(model, settings, lr):
        """Without AdamW's division, which blows rounding up where gradients vanish."""
        return create_optimizer_v2(model, opt="sgd", lr=lr, weight_decay=settings.weight_decay, momentum=0.9)

    monkeypatch.setattr("recnext.engine.loop.make_optimizer", momentum)
    changes = {**OPTIONS, "clip": clip[0], "clip_value": clip[1]}
    assert finish(start(settings(output=str(tmp_path / "ddp"), **changes), data=digit_folders, ranks=2)) == [0, 0]
    request.getfixturevalue("sharded")
    assert finish(start(settings(output=str(tmp_path / "fsdp"), **changes), data=digit_folders, ranks=2)) == [0, 0]
    for name in ("last", "last_ema"):
        ours, theirs = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("fsdp", "ddp"))
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=2e-5, msg=lambda text, key=key: key + text)
    for ours, theirs in zip(metrics(tmp_path / "fsdp"), metrics(tmp_path / "ddp"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    ours, theirs = (torch.load(tmp_path / run / "state.pt", weights_only=True)["optimizer"] for run in ("fsdp", "ddp"))
    assert ours["state"].keys() == theirs["state"].keys()  # either kind resumes from the other's


@pytest.mark.slow
def test_a_sharded_run_that_was_killed_goes_on_bit_for_bit(digit_folders, tmp_path, sharded):
    def run(folder):
        chosen = settings(output=str(tmp_path / folder), resume="auto", clip="agc", **OPTIONS)
        return start(chosen, data=digit_folders, ranks=2)

    assert finish(run("whole")) == [0, 0]
    assert kill_after_save(run("killed"), tmp_path / "killed" / "state.pt", seconds=0)
    assert finish(run("killed")) == [0, 0]
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fsdp_version": 1}, "FSDP and fsdp_version: 1: set it to 2"),
        ({"cpu_offload": True}, "fsdp_offload_params: leave it out"),
        ({"activation_checkpointing": True}, "BatchNorm would count each image twice"),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 10}, "take TRANSFORMER_BASED_WRAP"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(RecNextError, match=message):
        enable_sharding(Accelerator(cpu=True), FullyShardedDataParallelPlugin(**{"fsdp_version": 2, **options}))
