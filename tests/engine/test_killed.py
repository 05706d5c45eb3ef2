"""kill -9, for real and anywhere: the resumed run is, bit for bit, the one that nobody killed (CPU, float32).

With everything random or stateful that the published recipe has: mixup, cutmix, erasing, RandAugment, stochastic depth,
repeated augmentation, gradient accumulation, clipping, an average of the weights, workers, a teacher.
"""

import pytest

from engine.processes import finish, kill_after_save, start
from engine.runs import assert_same_run, settings
from recnext.checkpoints import load, save


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    teacher = save(load("test_recnext_m", num_classes=10), tmp_path_factory.mktemp("teacher") / "t.safetensors")
    return {
        "batch_size": 4,
        "accumulate": 2,
        "lr": 0.01,
        "epochs": 2,
        "save_every": 2,
        "keep": 2,
        "ema": True,
        "ema_decay": 0.9,
        "clip": "agc",
        "schedule": "epoch_cosine",
        "drop_path": 0.2,
        "mixup": 0.8,
        "cutmix": 1.0,
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "erase_prob": 0.5,
        "repeats": 3,
        "teacher": str(teacher),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (2, 1)], ids=["alone", "two gloo ranks"])
def test_killed_again_and_again(recipe, digit_folders, tmp_path, ranks, workers):
    def run(folder, **changes):
        chosen = settings(output=str(tmp_path / folder), workers=workers, **{**recipe, **changes})
        return start(chosen, data=digit_folders, ranks=ranks)

    assert finish(run("whole")) == [0] * ranks
    for seconds in (0, 0.1):
        kill_after_save(run("killed", resume="auto"), tmp_path / "killed" / "state.pt", seconds=seconds)
    assert finish(run("killed", resume="auto")) == [0] * ranks
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
