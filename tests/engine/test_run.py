"""What a whole run leaves behind."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from engine.runs import settings
from recnext.checkpoints import load, read_metadata
from recnext.engine.optimization import make_optimizer
from recnext.engine.run import train
from recnext.study.demo.digits import CLASS_NAMES
from recnext.tasks.classification.data import open_for, preparation_of
from recnext.tasks.classification.evaluate import evaluate_classifier
from recnext.tasks.classification.job import ClassificationJob


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, digit_folders):

    path = tmp_path_factory.mktemp("run") / "a" / "b"
    train(ClassificationJob(), settings(output=str(path), ema=True, lr=0.01, curves=True), data=digit_folders)
    return path


def test_files_of_a_run(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    weights = {"best.safetensors", "last.safetensors", "best_ema.safetensors", "last_ema.safetensors"}
    assert names == weights | {
        "config.yaml",
        "recipe.yaml",
        "metrics.jsonl",
        "summary.json",
        "state.pt",
        "curves.png",
        ".lock",
    }


def test_metrics_and_summary(run_folder):
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [(record["epoch"], record["step"]) for record in records] == [(0, 5), (1, 10)]
    for key in ("lr", "train_loss", "val_loss", "top1", "top5", "images_per_second", "seconds", "ema_top1"):
        assert all(isinstance(record[key], float) for record in records), key
    summary = json.loads((run_folder / "summary.json").read_text())
    best = max(records, key=lambda record: record["top1"])
    assert summary["best_epoch"] == best["epoch"] + 1
    assert summary["best"]["top1"] == best["top1"]
    assert summary["parameters"] == sum(p.numel() for p in load("test_recnext_m", num_classes=10).parameters())


def test_config_tells_the_resolved_settings(run_folder):
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    assert config["settings"]["model"] == "test_recnext_m"
    assert config["settings"]["weight_decay"] == 0.025
    assert config["class_names"] == list(CLASS_NAMES)
    assert config["input"] == {
        "size": [3, 32, 32],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    }
    assert config["versions"]["torch"] == torch.__version__.partition("+")[0] or config["versions"]["torch"] == str(
        torch.__version__
    )


def test_weights_load_by_themselves_and_reach_the_accuracy_in_the_metrics(run_folder, digit_folders):
    metadata = read_metadata(run_folder / "last.safetensors")
    assert metadata is not None
    assert (metadata.model, metadata.num_classes, metadata.epoch, metadata.fused) == ("test_recnext_m", 10, 1, False)
    assert metadata.class_names == CLASS_NAMES
    assert metadata.input_size == (3, 32, 32)
    last = json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1])
    for name, prefix in (("last", ""), ("last_ema", "ema_")):
        model = load(checkpoint=run_folder / f"{name}.safetensors")
        result = evaluate_classifier(
            model,
            open_for(model, digit_folders, checkpoint=name),
            preparation=preparation_of(model),
            device=torch.device("cpu"),
            workers=0,
        )
        assert result.top1 == pytest.approx(last[prefix + "top1"])
        assert result.loss == pytest.approx(last[prefix + "val_loss"], rel=1e-4)


def test_averaged_weights_differ_and_lag_behind(run_folder):
    raw, averaged = (load_file(run_folder / f"{name}.safetensors") for name in ("last", "last_ema"))
    assert list(raw) == list(averaged)
    assert any(not torch.equal(raw[key], averaged[key]) for key in raw)


def test_learning_rate_of_every_step_is_warm_up_then_cosine(train, tmp_path):
    rates = []
    options = {"epochs": 2, "warmup_epochs": 0.6, "lr": 0.004, "min_lr": 1e-4}
    train(tmp_path / "run", **options, on_step=lambda step: rates.append(step.lr))
    expected = []
    for step in range(10):  # warm-up over 3 of 10 steps
        if step < 3:
            expected.append(1e-6 + step * (0.004 - 1e-6) / 3)
        else:
            cosine = torch.cos(torch.tensor(torch.pi * step / 10, dtype=torch.float64)).item()
            expected.append(1e-4 + (0.004 - 1e-4) * (1 + cosine) / 2)
    assert rates == pytest.approx(expected, rel=1e-9)


def test_no_decay_on_norms_and_biases():
    model = load("test_recnext_m", num_classes=10)
    decayed = {}
    for group in make_optimizer(model, settings(), lr=0.1).param_groups:
        decayed.setdefault(group["weight_decay"], set()).update(p.ndim for p in group["params"])
    assert set(decayed) == {0.0, 0.025}
    assert decayed[0.0] == {1}
    assert min(decayed[0.025]) > 1


def test_fine_tuning_starts_from_the_weights_and_keeps_them_where_they_fit(train, run_folder, tmp_path):
    started = []

    def keep(step):
        started.append({key: value.clone() for key, value in step.model.state_dict().items()})

    train(tmp_path / "tuned", checkpoint=str(run_folder), epochs=1, lr=1e-12, warmup_epochs=0, on_step=keep)
    for key, value in load_file(run_folder / "best.safetensors").items():
        if "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(started[0][key], value, rtol=0, atol=1e-9)


def test_a_compiled_network_trains_and_is_saved_under_its_own_names(train, run_folder, tmp_path, monkeypatch):
    """Traced but not built: building takes a minute."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: original(model, backend="eager"))
    train(tmp_path / "run", compile=True, ema=True, lr=0.01, epochs=1)
    first, second = (load_file(folder / "last.safetensors") for folder in (run_folder, tmp_path / "run"))
    assert list(first) == list(second)
    records = [
        json.loads((folder / "metrics.jsonl").read_text().splitlines()[0]) for folder in (run_folder, tmp_path / "run")
    ]
    assert records[1]["train_loss"] == pytest.approx(records[0]["train_loss"], rel=0.2)  # another schedule
