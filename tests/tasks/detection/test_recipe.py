"""The published recipe says what is published, and runs."""

from pathlib import Path

import pytest
import torch
import yaml

from recnext.checkpoints.published import published
from recnext.cli.recipes import recipes
from recnext.engine.resuming import read_settings
from recnext.engine.run import train
from recnext.engine.schedule import LearningRate
from recnext.tasks.detection.job import DetectionJob
from recnext.tasks.detection.settings import DetectSettings
from tasks.detection.runs import settings, write_data

NAME = "coco_mask_rcnn_1x"


@pytest.fixture(scope="module")
def recipe() -> DetectSettings:
    return read_settings(DetectSettings, yaml.safe_load(recipes()[NAME].read_text()), source=Path(NAME))


def test_published_values(recipe):
    lr, _ = recipe.peak_lr(16)
    assert (lr, recipe.epochs, recipe.batch_size * 8, recipe.weight_decay, recipe.decay_all) == (
        2e-4,
        12,
        16,
        0.05,
        True,
    )
    assert (recipe.image_size, recipe.longest, recipe.training_sizes, recipe.hflip) == (800, 1333, (800,), 0.5)
    assert (recipe.photometric, recipe.keep_empty, recipe.sync_batchnorm, recipe.ema) == (False, False, True, False)
    published_heads = (recipe.channels, recipe.box_features, recipe.mask_layers, recipe.proposals, recipe.roi_samples)
    assert published_heads == (256, 1024, 4, 1000, 512)
    text = recipes()[NAME].read_text().replace("\n# ", " ")
    for network, result in published()[NAME].items():
        assert f"{network} {result['ap_box']} and {result['ap_mask']}" in text


def test_published_schedule(recipe):
    """Oracle: lr * (1 - (1 - i / 500) * (1 - 1e-6)) in the first 500 steps, a tenth after epochs 8 and 11."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    steps = 7330
    schedule = LearningRate(optimizer, recipe, steps_per_epoch=steps)
    for step in (0, 1, 250, 499, 500, 8 * steps - 1, 8 * steps, 11 * steps - 1, 11 * steps, 12 * steps - 1):
        schedule.set(step)
        decay = 0.1 ** ((step >= 8 * steps) + (step >= 11 * steps))
        expected = 2e-4 * decay * (1 - (1 - min(step / 500, 1)) * (1 - 1e-6))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)


def test_small_data_sizes_are_drawn_around_the_one_given():
    assert DetectSettings(image_size=800).training_sizes == (640, 720, 800, 880, 960)
    assert DetectSettings(image_size=800).longest == 1333


def test_runs(recipe, tmp_path):
    """With its own settings, but for size, weights and length."""
    data = write_data(tmp_path / "data", train=8, val=2)
    tiny = settings()
    names = (
        "model",
        "channels",
        "box_features",
        "mask_layers",
        "proposals",
        "roi_samples",
        "image_size",
        "device",
    )
    changes = {name: getattr(tiny, name) for name in names}
    values = {
        **recipe.to_dict(),
        **changes,
        "pretrained": False,
        "curves": False,
        "workers": 0,
        "max_size": 80,
        "epochs": 3,
    }
    values |= {"scale": recipe.scale, "milestones": (1, 2), "warmup_steps": 1, "output": str(tmp_path / "run")}
    result = train(DetectionJob(), DetectSettings(**values), data=data)
    assert [record["lr"] for record in result.records] == pytest.approx([2.5e-5, 2.5e-6, 2.5e-7])
