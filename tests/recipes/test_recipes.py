"""Every recipe of classification: what it says is what is published, and it runs."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml

from recnext.checkpoints import load, save
from recnext.checkpoints.published import published
from recnext.cli.main import dispatch
from recnext.cli.recipes import find_recipe, recipes
from recnext.engine.resuming import read_settings
from recnext.engine.schedule import LearningRate
from recnext.errors import RecNextError
from recnext.study.demo.digits import write_folders
from recnext.tasks.classification.settings import TrainSettings

FOLDER = Path(__file__).parents[2] / "recipes"
OTHERS = ("coco", "ade20k")  # of detection and segmentation, whose tests run them
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith(OTHERS))
PUBLISHED = [name for name in NAMES if name.startswith(("imagenet", "ablation", "mlla"))]
TINY = {"imagenet_a": "test_recnext_a", "imagenet_l": "test_recnext_l", "imagenet_share": "test_recnext_l"}


def settings(name) -> TrainSettings:
    return read_settings(TrainSettings, yaml.safe_load((FOLDER / f"{name}.yaml").read_text()), source=Path(name))


def comment(name) -> str:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def published_lr(epoch, *, peak, epochs):
    """The published rule, in float64: stepped with the epoch that has ended."""
    t = max(epoch - 1, 0)
    if t < 5:
        return 1e-6 + t * (peak - 1e-6) / 5
    return 1e-5 + (peak - 1e-5) * (1 + math.cos(math.pi * t / epochs)) / 2


def test_recipes_are_found_by_name():
    assert [name for name in recipes() if not name.startswith(OTHERS)] == NAMES
    assert find_recipe("imagenet_m_base") == str(recipes()["imagenet_m_base"])
    with pytest.raises(RecNextError, match="no configuration 'imagnet_m', neither a file nor a recipe: did you mean"):
        find_recipe("imagnet_m")


def test_every_series_and_kind_has_one():
    series = ("m", "a", "l", "share_channel")
    wanted = {f"imagenet_{one}_{kind}" for one in series for kind in ("base", "distilled")}
    assert set(NAMES) == wanted | {
        *("ablation_120e_224", "ablation_120e_384", "mlla_256", "finetune", "finetune_head_first", "cifar100"),
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_learning_rate_and_length(name):
    recipe = settings(name)
    assert recipe.epochs == (120 if name.startswith("ablation") else 300)
    assert recipe.image_size == {"ablation_120e_384": 384, "mlla_256": 256}.get(name, 224)
    lr, sentence = recipe.peak_lr(recipe.batch_size * 8)
    assert (lr, sentence) == (2e-3, "batch 1024 → lr 0.002 (0.001 * batch / 512)")
    assert recipe.peak_lr(256)[0] == 5e-4  # not raised for small batches
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = LearningRate(optimizer, recipe, steps_per_epoch=1251)
    for epoch in range(recipe.epochs):
        for step in (0, 1250):
            schedule.set(epoch * 1251 + step)
            expected = published_lr(epoch, peak=2e-3, epochs=recipe.epochs)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    recipe = settings(name)
    expected = {
        "weight_decay": 0.025,
        "clip": "agc",
        "clip_value": 0.02,
        "ema": True,
        "ema_decay": 0.99996,
        "ema_warmup": False,
        "mixup": 0.8,
        "cutmix": 1.0,
        "mix_prob": 1.0,
        "mix_switch": 0.5,
        "label_smoothing": 0.1,
        "repeats": 3,
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "crop_scale": 0.08,
        "hflip": 0.5,
        "erase_prob": 0.25,
        "erase_mode": "pixel",
        "decay_all": False,
        "layer_decay": None,
        "accumulate": 1,
        "pretrained": False,
        "checkpoint": None,
        "freeze_epochs": 0,
    }
    assert {key: getattr(recipe, key) for key in expected} == expected
    distilled = name.endswith("distilled")
    assert (recipe.teacher is not None) == distilled
    if distilled:
        assert (recipe.distillation, recipe.distillation_weight) == ("hard", 0.5)
        assert recipe.teacher.startswith("regnety_160")


@pytest.mark.parametrize("name", NAMES)
def test_comment_gives_command_accuracy_and_source(name):
    text = comment(name)
    assert f"--config {name}" in text
    assert "Expected" in text
    assert "Source: " in text
    results = published()
    if name.startswith("imagenet"):
        key = f"top1_{name.rpartition('_')[2]}"
        known = {network: values[key] for network, values in results["classification"].items()}
    elif name.startswith("ablation"):
        size = int(name.rpartition("_")[2])
        rows = results["ablation_recnext_m1"]
        known = {row["variant"]: row["top1_120_epochs"] for row in rows if row["image_size"] == size}
    elif name.startswith("mlla"):
        names = {"recconv_conv_transpose": "recconv_transposed", "recattn_nearest": "recattn"}
        names["recattn_rope_nearest"] = "recattn_rope"
        known = {
            f"{network}_{names.get(variant, variant)}": top1
            for network, variants in results["mlla_top1_300_epochs_256px"].items()
            for variant, top1 in variants.items()
        }
    else:
        return
    told = dict(re.findall(r"(\w+) (\d\d\.\d+)", text.partition("Expected")[2].partition("Source")[0]))
    assert len(told) >= 3
    assert {network: float(top1) for network, top1 in told.items()} == {network: known[network] for network in told}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    write_folders(root, per_class=2)
    return root


@pytest.mark.parametrize("name", NAMES)
def test_runs(name, data, tmp_path, capsys):
    """As from a shell, with a tiny network, two steps of ten digits, and a tiny teacher from a file."""
    kind = next((kind for kind in TINY if name.startswith(kind)), "")
    mlla = name == "mlla_256"
    model = "mlla_nano_recconv_nearest" if mlla else TINY.get(kind, "test_recnext_m")
    flags = [
        f"--model={model}",
        "--image-size=32",
        "--batch-size=10",
        "--epochs=1",
        "--workers=0",
        "--device=cpu",
        "--no-curves",
    ]
    if mlla:
        flags.append(f"--model-args={json.dumps({'embed_dim': 8, 'depths': [1, 1, 1, 1], 'num_heads': [1, 1, 2, 2]})}")
    recipe = settings(name)
    if recipe.pretrained:
        path = save(load(model, num_classes=7), tmp_path / "start.safetensors")
        flags += ["--no-pretrained", f"--checkpoint={path}"]
    if recipe.teacher:
        path = save(load("test_recnext_m", num_classes=10), tmp_path / "teacher.safetensors")
        flags.append(f"--teacher={path}")
    run = tmp_path / "run"
    assert dispatch(["train", str(data), "--config", name, *flags, f"--output={run}"]) == 0, capsys.readouterr().err
    record = json.loads((run / "metrics.jsonl").read_text())
    assert record["step"] == 2
    assert math.isfinite(record["train_loss"])
    kept = yaml.safe_load((run / "recipe.yaml").read_text())
    assert kept["clip"] == recipe.clip
    assert kept["epochs"] == 1
    read_settings(TrainSettings, kept, source=run)  # and it can start another run
