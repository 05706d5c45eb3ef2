"""Each way a run can fail: one clear line, and the last good save stays."""

import errno
import json
import math
import multiprocessing
import os
import shutil

import pytest
import torch

from engine.processes import finish, start
from engine.runs import SpoiltJob, infinite, settings
from recnext.checkpoints import load, save
from recnext.engine.accelerator import make_accelerator
from recnext.errors import MissingExtraError, RecNextError
from recnext.tasks.classification.job import ClassificationJob
from recnext.tasks.classification.settings import TrainSettings


def test_nan_before_the_first_save_says_so(train, tmp_path):
    job = SpoiltJob(ClassificationJob(), infinite)
    with pytest.raises(RecNextError, match=r"the loss is inf in epoch 1, step 1: .*nothing was saved before it.*--lr"):
        train(tmp_path / "run", job=job)
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_weights_that_broke_under_a_finite_loss_replace_nothing(train, tmp_path):
    train(tmp_path / "run", epochs=1)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    state = (tmp_path / "run" / "state.pt").read_bytes()

    def break_weights(step):
        with torch.no_grad():
            next(step.model.parameters()).mul_(math.inf)

    with pytest.raises(RecNextError, match=r"the weights are not finite any more after step 10: .*keeps the state"):
        train(tmp_path / "run", epochs=2, resume=True, on_step=lambda step: step.number == 10 and break_weights(step))
    assert (tmp_path / "run" / "state.pt").read_bytes() == state
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")} == kept


def test_a_run_that_ended_before_it_saved_leaves_its_folder_free(train, tmp_path):
    with pytest.raises(RecNextError, match="--accumulate is 50"):
        train(tmp_path / "run", epochs=1, accumulate=50)
    assert (tmp_path / "run" / "config.yaml").exists()
    assert train(tmp_path / "run", epochs=1).best is not None
    with pytest.raises(RecNextError, match="already holds a run"):
        train(tmp_path / "run", epochs=1)


def test_nan_on_one_rank_stops_both_and_names_its_images_alone(digit_folders, tmp_path):
    job = SpoiltJob(ClassificationJob(), infinite, rank=1)
    ranks = start(settings(output=str(tmp_path / "run")), data=digit_folders, job=job, ranks=2)
    assert finish(ranks) == [2, 2]  # what `start` makes of RecNextError
    (batch,) = json.loads((tmp_path / "run" / "diverged.json").read_text())["batches"]
    assert (batch["process"], batch["loss"], len(batch["files"])) == (1, "inf", 8)


def test_a_loading_process_that_is_killed_is_one_line(train, tmp_path):
    def kill(step):
        for worker in multiprocessing.active_children():
            if "Process-" in worker.name:
                worker.kill()

    with pytest.raises(RecNextError, match=r"a process that loads images was killed .*--workers.*: --resume goes on"):
        train(tmp_path / "run", workers=1, epochs=20, save_every=1, on_step=kill)


def test_out_of_gpu_memory_is_one_line(train, tmp_path):
    def exhaust(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 8 GiB.")

    message = r"out of GPU memory at --batch-size 8 \(CUDA out of memory\): --batch-size 4 --accumulate 2 gives"
    with pytest.raises(RecNextError, match=message):
        train(tmp_path / "run", job=SpoiltJob(ClassificationJob(), exhaust))


def test_full_disk_keeps_the_last_epoch_and_says_so(train, tmp_path, monkeypatch):
    train(tmp_path / "run", epochs=1)
    folder = tmp_path / "run"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.copytree(folder, tmp_path / "full")
    replace = os.replace

    def full(source, target):
        if "last.safetensors" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    config = (tmp_path / "full" / "config.yaml").read_text().replace("epochs: 1\n", "epochs: 2\n")
    (tmp_path / "full" / "config.yaml").write_text(config)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match=r"no space left on the disk; .* keeps the state saved before: free some and go on with --resume"
    ) as caught:
        train(tmp_path / "full", resume=True)
    assert caught.value.filename.endswith("last.safetensors")
    for name in ("last.safetensors", "state.pt", "metrics.jsonl"):
        assert (tmp_path / "full" / name).read_bytes() == before[name]
    assert not list((tmp_path / "full").glob(".*.tmp"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs is 0: expected an integer from 1"),
        ({"epochs": None}, "--epochs is None: expected a value"),
        ({"model_args": None}, "--model-args is None: expected a value"),
        ({"image_size": 16}, "--image-size is 16: expected at least 32 pixels"),
        ({"batch_size": 1}, "--batch-size is 1: expected an integer from 2"),  # BatchNorm has no variance of one
        ({"lr": 0.0}, "--lr is 0.0: expected above 0"),
        ({"lr": float("nan")}, "--lr is nan"),
        ({"crop_scale": 0.0}, "--crop-scale is 0.0"),
        ({"accumulate": 0}, "--accumulate is 0: expected an integer from 1"),
        ({"clip": "agc", "clip_value": 0.0}, "--clip-value is 0.0: expected above 0"),
        ({"milestones": (8, 3)}, "--milestones is 8 3: expected rising positive integers"),
        ({"schedule": "epoch_cosine", "steps": 100}, "--schedule epoch_cosine goes by epochs"),
        ({"evaluate_every": 5}, "--evaluate-every 5 is for runs counted in --steps"),
        ({"mixup": 0.8, "batch_size": 7}, "--batch-size is 7: mixup and cutmix pair images"),
        ({"freeze_epochs": 2}, "--freeze-epochs is 2 without weights to keep"),
        ({"teacher_checkpoint": "x.pth"}, "--teacher-checkpoint needs the teacher's timm name"),
        ({"auto_augment": "rand"}, "--auto-augment is 'rand': expected"),
        ({"hflip": 1.5}, "--hflip is 1.5: expected a probability from 0 to 1"),
        ({"workers": 100_000}, "--workers is 100000: expected [0-9]+ at most"),
        ({"epochs": 2**70}, "--epochs is 1180591620717411303424: expected 1000000 at most"),
        ({"auto_augment": "rand-m9999999999-n99999999"}, "--auto-augment is .*: expected m of at most 30"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(RecNextError, match=message):
        TrainSettings(**changes)


def test_unknown_model_and_arguments_that_do_not_fit(train, tmp_path):
    with pytest.raises(RecNextError, match="did you mean recnext_m1"):
        train(tmp_path / "a", model="recnxt_m1")
    with pytest.raises(RecNextError, match="test_recnext_m has no argument 'depth'"):
        train(tmp_path / "b", model_args={"depth": 3})
    for name, value in (("num_classes", 3), ("in_chans", 1), ("distillation", True), ("checkpoint", "x.pth")):
        with pytest.raises(RecNextError, match=f"--model-args may not hold {name}"):
            train(tmp_path / "c", model_args={name: value})


def test_grey_weights_are_refused(train, tmp_path):
    path = save(load("test_recnext_m", in_chans=1), tmp_path / "grey.safetensors")
    with pytest.raises(RecNextError, match="takes images of 1 channel"):
        train(tmp_path / "run", checkpoint=str(path))


def test_output_must_be_a_folder(train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecNextError, match="is a file: --output expects a folder"):
        train(tmp_path / "file")


def test_device_and_precision_are_checked():
    with pytest.raises(RecNextError, match="expected auto, cpu, cuda, cuda:N or mps"):
        make_accelerator(device="gpu")
    with pytest.raises(RecNextError, match="--precision fp16 needs a GPU"):
        make_accelerator(device="cpu", precision="fp16")


def test_other_launchers_are_refused(monkeypatch):
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    with monkeypatch.context() as launcher:
        launcher.setenv("ACCELERATE_USE_FSDP", "true")
        with pytest.raises(RecNextError, match="accelerate was started for FSDP, which this trainer cannot save: set"):
            make_accelerator(device="cpu")
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.DEEPSPEED)
    with pytest.raises(RecNextError, match="accelerate was started for DEEPSPEED, which this trainer cannot save: set"):
        make_accelerator(device="cpu")


def test_a_tracker_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("recnext.engine.tracking.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"--tracker wandb needs wandb.*recnext\[loggers\]"):
        make_accelerator(device="cpu", tracker="wandb")


def test_learning_rate_rule_is_explained():
    assert TrainSettings(pretrained=True).peak_lr(1024) == (0.002, "batch 1024 → lr 0.002 (0.001 * batch / 512)")
    assert TrainSettings().peak_lr(64)[0] == 1e-3
    assert TrainSettings().peak_lr(1024)[0] == 2e-3
    assert TrainSettings(lr=0.3).peak_lr(8) == (0.3, "batch 8 → lr 0.3 (as given)")
