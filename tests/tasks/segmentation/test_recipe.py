"""The published recipe says what is published, and runs."""

from pathlib import Path

import pytest
import torch
import yaml

from recnext.checkpoints.published import published
from recnext.cli.recipes import recipes
from recnext.engine.optimization import make_optimizer
from recnext.engine.resuming import read_settings
from recnext.engine.run import train
from recnext.engine.schedule import LearningRate
from recnext.tasks.segmentation import build
from recnext.tasks.segmentation.job import SegmentationJob
from recnext.tasks.segmentation.settings import SegmentSettings
from tasks.segmentation.runs import settings, write_data

NAME = "ade20k_semantic_fpn_80k"


@pytest.fixture(scope="module")
def recipe() -> SegmentSettings:
    return read_settings(SegmentSettings, yaml.safe_load(recipes()[NAME].read_text()), source=Path(NAME))


def test_published_values(recipe):
    lr, _ = recipe.peak_lr(32)
    assert (lr, recipe.steps, recipe.batch_size * 8, recipe.weight_decay) == (1e-4, 80000, 32, 0.05)
    assert (recipe.image_size, recipe.scale, recipe.cat_max_ratio, recipe.hflip) == (512, (0.5, 2.0), 0.75, 0.5)
    assert (recipe.loss, recipe.photometric, recipe.dropout, recipe.num_classes) == ("all", True, 0.1, 150)
    text = recipes()[NAME].read_text()
    for network, result in published()["ade20k_semantic_fpn"].items():
        assert f"{network} {result['miou']}" in text.replace("\n# ", " ")


def test_published_schedule(recipe):
    """Oracle: poly, (peak - least)(1 - i / 80000)^0.9 + least, from the first step on."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = LearningRate(optimizer, recipe, steps_per_epoch=631)
    for step in (0, 1, 630, 40000, 79999):
        schedule.set(step)
        expected = (1e-4 - 1e-6) * (1 - step / 80000) ** 0.9 + 1e-6
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)


def test_weight_decay_is_on_everything(recipe):
    model = build("test_recnext_m", num_classes=3, neck_channels=8, head_channels=8)
    groups = make_optimizer(model, recipe, lr=1e-4).param_groups
    assert {group["weight_decay"] for group in groups} == {0.05}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_runs(recipe, tmp_path):
    """With its own settings, but for size, length, weights and the data's classes."""
    data = write_data(tmp_path / "data", train=6, val=2)
    kept = ("model", "neck_channels", "head_channels", "image_size", "device", "workers", "curves")
    values = {**recipe.to_dict(), **{name: getattr(settings(), name) for name in kept}, "scale": recipe.scale}
    values |= {"pretrained": False, "num_classes": 6, "milestones": (), "steps": 2, "evaluate_every": 1}
    values["output"] = str(tmp_path / "run")
    result = train(SegmentationJob(), SegmentSettings(**values), data=data)
    assert [record["step"] for record in result.records] == [1, 2]
