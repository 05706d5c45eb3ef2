"""A run that was stopped and resumed is, bit for bit, the run that was not (CPU, float32)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from recnext.errors import RecNextError
from recnext.training import train_on_folders
from recnext.training.loop import _Loop
from recnext.training.run_folder import RunFolder
from training.runs import settings

MEASURED = ("seconds", "images_per_second", "peak_memory_mib")  # times differ, nothing else may
OPTIONS = {"ema": True, "lr": 0.01, "model_args": {"drop_path_rate": 0.2}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, digit_folders):

    path = tmp_path_factory.mktemp("whole") / "run"
    train_on_folders(settings(output=str(path), **OPTIONS), data=digit_folders)
    return path


def metrics(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in records]


def assert_same_run(left, right):
    for name in ("best", "last", "best_ema", "last_ema"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (left, right))
        assert list(first) == list(second)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert metrics(left) == metrics(right)


class Killed(Exception):
    """Stands for kill -9: nothing is saved on the way out."""


def killed_after(monkeypatch, steps):
    original = _Loop.train_step

    def counted(self, group):
        if self.done == steps:
            raise Killed
        return original(self, group)

    monkeypatch.setattr(_Loop, "train_step", counted)


@pytest.mark.parametrize(
    ("steps", "save_every", "workers"),
    [(5, 0, 0), (7, 0, 2), (3, 2, 0), (8, 1, 0)],
    ids=["epoch boundary", "mid-epoch without saves", "mid-epoch", "right after a save"],
)
def test_killed_and_resumed(train, tmp_path, monkeypatch, whole, steps, save_every, workers):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        killed_after(patch, steps)
        with pytest.raises(Killed):
            train(folder, **OPTIONS, save_every=save_every)
    train(folder, resume=True, workers=workers)
    assert_same_run(whole, folder)


def test_signal_in_mid_epoch_saves_and_resumes(train, tmp_path, monkeypatch, whole):
    folder = tmp_path / "run"
    original = _Loop.train_step

    def signalled(self, group):
        if (self.period, self.step) == (1, 1):
            self.stop.note(signal.SIGTERM)
        return original(self, group)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "train_step", signalled)
        result = train(folder, **OPTIONS)
    assert (result.interrupted, result.position) == (signal.SIGTERM, (1, 2))
    assert not (folder / "summary.json").exists()
    train(folder, resume=True)
    assert_same_run(whole, folder)


def test_signal_during_evaluation_saves_the_trained_epoch(train, tmp_path, monkeypatch, whole):
    folder = tmp_path / "run"
    original = _Loop.evaluate

    def signalled(self):
        self.stop.note(signal.SIGINT)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "evaluate", signalled)
        result = train(folder, **OPTIONS)
    assert (result.interrupted, result.position) == (signal.SIGINT, (0, 5))
    train(folder, resume=True)
    assert_same_run(whole, folder)


def test_resuming_a_finished_run_changes_nothing(train, tmp_path, whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.suffix == ".safetensors"}
    result = train(whole, resume=True)
    assert len(result.records) == 2
    assert {name: (whole / name).read_bytes() for name in before} == before


def test_a_resumed_run_keeps_its_settings(train, whole, digit_folders, tmp_path):
    with pytest.raises(RecNextError, match=r"--lr 0\.5 differs from the 0\.01 this run was started with"):
        train(whole, resume=True, lr=0.5)
    with pytest.raises(RecNextError, match="already holds a run: --resume goes on with it"):
        train(whole)
    with pytest.raises(RecNextError, match="holds no run to resume"):
        train(tmp_path / "none", resume=True)


def test_other_data_is_refused(whole, digit_folders, tmp_path):

    shutil.copytree(digit_folders, tmp_path / "fewer")
    next((tmp_path / "fewer" / "train" / "3").iterdir()).unlink()
    with pytest.raises(RecNextError, match="train images: 40, now 39"):
        train_on_folders(settings(output=str(whole), resume=True), data=tmp_path / "fewer")


def test_a_damaged_state_is_named(train, tmp_path):
    train(tmp_path / "run", epochs=1)
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(RecNextError, match=r"state\.pt is damaged .* --checkpoint"):
        train(tmp_path / "run", epochs=1, resume=True)


def test_a_state_is_data_not_a_program(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"model": Attack()}, tmp_path / "state.pt")
    with pytest.raises(RecNextError, match="damaged"):
        RunFolder(tmp_path).load_state()


@pytest.mark.slow
def test_a_real_kill_and_a_real_ctrl_c(digit_folders, tmp_path, whole):
    """kill -9 within the first epoch, Ctrl-C within what follows, in processes with workers."""
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "recnext", "train", str(digit_folders), "--output", str(folder)]
    start = [
        *("--model=test_recnext_m", "--image-size=32", "--epochs=2", "--batch-size=8", "--device=cpu"),
        *("--lr=0.01", "--ema", '--model-args={"drop_path_rate": 0.2}', "--workers=2", "--save-every=1"),
    ]
    first = subprocess.Popen([*command, *start], stdout=subprocess.DEVNULL)
    wait_for(folder / "state.pt", first)
    first.kill()
    first.wait()
    saved = (folder / "state.pt").stat().st_mtime_ns
    second = subprocess.Popen(
        [*command, "--resume", "--save-every=1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while (folder / "state.pt").stat().st_mtime_ns == saved and second.poll() is None:
        time.sleep(0.01)
    second.send_signal(signal.SIGINT)
    output, errors = second.communicate(timeout=120)
    assert second.returncode in (130, 0)  # 0: it was done before the signal came
    if second.returncode == 130:
        assert "--resume goes on from there" in output.splitlines()[-1]
        assert "Traceback" not in errors
        subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    assert_same_run(whole, folder)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)
