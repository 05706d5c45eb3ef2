import json

import pytest
import torch

from recnext.checkpoints.metadata import save_checkpoint
from recnext.engine.run import train
from recnext.errors import RecNextError
from recnext.tasks.detection import load
from recnext.tasks.detection.batches import evaluation_loader
from recnext.tasks.detection.checkpoint import describe
from recnext.tasks.detection.data import open_split
from recnext.tasks.detection.evaluate import evaluate
from recnext.tasks.detection.job import DetectionJob
from tasks.detection.runs import edit, settings, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def evaluated(folder, data):
    images = open_split(data, "val", masks=True)
    model = load(folder / "last.safetensors")
    return evaluate(
        model, evaluation_loader(images), file=images.file, masks=model.config.masks, device=torch.device("cpu")
    ).compute()


@pytest.mark.parametrize("masks", [True, False])
def test_a_run_leaves_what_is_needed(tmp_path, data, masks):
    result = train(DetectionJob(), settings(output=str(tmp_path), masks=masks), data=data)
    assert result.interrupted is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["task"] == "detection"
    assert set(summary["best"]) == {
        f"{kind}_{name}" for kind in (["box", "mask"] if masks else ["box"]) for name in ("ap", "ap50", "ap75")
    }
    model = load(tmp_path)
    assert model.config.masks == masks
    assert model.labels == ("disc", "square", "triangle", "ring", "cross")
    assert model.config.category_ids == (2, 5, 8, 11, 14)
    assert model.config.min_size == 48
    assert evaluated(tmp_path, data).summary() == pytest.approx({k: result.records[-1][k] for k in summary["best"]})


def test_starts_from_a_detector_of_other_classes(tmp_path, data):
    train(DetectionJob(), settings(output=str(tmp_path / "first"), epochs=1), data=data)
    start = load(tmp_path / "first", num_classes=80)
    save_checkpoint(tmp_path / "start.safetensors", start.state_dict(), describe(start))
    later = settings(output=str(tmp_path / "later"), epochs=1, checkpoint=str(tmp_path / "start.safetensors"), lr=1e-12)
    train(DetectionJob(), later, data=data)
    tuned = load(tmp_path / "later").state_dict()
    for key, value in start.state_dict().items():
        if "_predictor." not in key and "running" not in key and "num_batches" not in key:
            torch.testing.assert_close(tuned[key], value, rtol=0, atol=1e-5)  # warm-up starts at 1e-6
    with pytest.raises(RecNextError, match=r"does not fit --channels"):
        train(
            DetectionJob(),
            settings(output=str(tmp_path / "x"), channels=16, checkpoint=str(tmp_path / "start.safetensors")),
            data=data,
        )


def test_data_without_objects_is_refused(tmp_path):
    other = write_data(tmp_path / "other")
    edit(other, "train", lambda content: content.update(annotations=[]))
    with pytest.raises(RecNextError, match="has no object to learn from"):
        train(DetectionJob(), settings(output=str(tmp_path / "none")), data=other)
