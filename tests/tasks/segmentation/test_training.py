import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from recnext.checkpoints import load as load_classifier
from recnext.checkpoints import save
from recnext.data.images import UnreadableImageError
from recnext.engine.run import train
from recnext.errors import RecNextError
from recnext.tasks.segmentation import build, load
from recnext.tasks.segmentation.batches import evaluation_loader, training_loader
from recnext.tasks.segmentation.data import open_mask_folders
from recnext.tasks.segmentation.evaluate import evaluate, preparation_of
from recnext.tasks.segmentation.job import SegmentationJob, build_for
from tasks.segmentation.runs import settings, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("shapes"))


def evaluated(folder, data, name="best", **options):
    model = load(folder / f"{name}.safetensors")
    images = open_mask_folders(data).val
    preparation = preparation_of(model)
    meter = evaluate(
        model,
        evaluation_loader(images, preparation=preparation),
        num_classes=6,
        preparation=preparation,
        device=torch.device("cpu"),
        **options,
    )
    return meter.compute()


def test_a_run_leaves_weights_that_evaluate_as_it_said(data, tmp_path):
    folder = tmp_path / "run"
    result = train(SegmentationJob(), settings(output=str(folder), ema=True), data=data)
    assert result.interrupted is None
    assert [record["step"] for record in result.records] == [3, 6]
    best = evaluated(folder, data)
    assert best.images == 5
    for name in ("miou", "macc", "aacc"):
        assert getattr(best, name) == pytest.approx(result.best[name], abs=1e-6)
    assert evaluated(folder, data, "last_ema").miou == pytest.approx(result.records[-1]["ema_miou"], abs=1e-6)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["best"]["miou"] == result.best["miou"]
    model = load(folder)
    assert model.class_names[0] == "background"
    assert model.image_size == 32
    assert evaluated(folder, data, window=32).images == 5


def test_a_run_of_so_many_classes_resumes_without_the_number(tmp_path):
    root = write_data(tmp_path / "data")
    for name in ("classes.txt", "objectInfo150.txt"):
        (root / name).unlink(missing_ok=True)
    train(SegmentationJob(), settings(output=str(tmp_path / "run"), epochs=1, num_classes=6), data=root)
    later = settings(output=str(tmp_path / "run"), epochs=2, resume=True)
    assert len(train(SegmentationJob(), later, data=root).records) == 2


def test_learning_with_either_loss_and_counted_in_steps(data, tmp_path):
    for loss in ("valid", "all"):
        folder = tmp_path / loss
        result = train(
            SegmentationJob(),
            settings(output=str(folder), steps=14, evaluate_every=7, loss=loss, lr=5e-3, warmup_steps=0),
            data=data,
        )
        assert [record["step"] for record in result.records] == [7, 14]
        assert result.records[1]["train_loss"] < result.records[0]["train_loss"] < 1.8  # ln 6


def test_ranks_share_the_images_between_them(data):
    """What two ranks see together is what one sees: each image once, none twice."""
    images = open_mask_folders(data).val
    preparation = preparation_of(build("test_recnext_m", num_classes=6))
    names = [
        name
        for rank in range(2)
        for batch in evaluation_loader(images, preparation=preparation, rank=rank, world_size=2)
        for name in batch.names
    ]
    assert sorted(names) == sorted(images.name(index) for index in range(5))


def test_a_bad_mask_is_replaced_in_training_and_stops_evaluation(tmp_path):
    root = write_data(tmp_path / "data")
    folders = open_mask_folders(root)
    bad = folders.train.pairs[2][1]
    Image.fromarray(np.full((40, 56), 99, dtype=np.uint8)).save(bad)
    result = train(SegmentationJob(), settings(output=str(tmp_path / "run"), epochs=1, max_unreadable=0.1), data=root)
    assert result.records[0]["unreadable"] == 1
    with pytest.raises(RecNextError, match=r"1 of 12 training images are unreadable.*holds label 99"):
        train(SegmentationJob(), settings(output=str(tmp_path / "strict"), epochs=1, max_unreadable=0), data=root)
    shutil.copy(bad, folders.val.pairs[1][1])
    with pytest.raises(UnreadableImageError, match=r"holds label 99 at row 0, column 0: expected 1\.\.6 for 6"):
        train(SegmentationJob(), settings(output=str(tmp_path / "val"), epochs=1, max_unreadable=1), data=root)


def test_workers_give_the_same_batches(data):
    from recnext.data.sampling import TrainBatches

    def batches(workers):
        folder = open_mask_folders(data).train
        preparation = preparation_of(build("test_recnext_m", num_classes=6), image_size=32)
        options = {"transform": preparation.training_transform(), "seed": 1, "workers": workers}
        return list(training_loader(folder, TrainBatches(12, batch_size=4, seed=1), **options))

    for one, other in zip(batches(0), batches(1), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.images.shape == (4, 3, 32, 32)


def test_starting_weights(data, tmp_path):
    torch.manual_seed(0)
    classifier = load_classifier("test_recnext_m", num_classes=4)
    save(classifier, tmp_path / "classifier.safetensors")
    path = str(tmp_path / "classifier.safetensors")
    model = build_for(settings(checkpoint=path), 6)
    weight = classifier.state_dict()["stages.3.blocks.0.channel_mixer.0.conv.weight"]
    assert torch.equal(model.state_dict()["backbone.stages.3.blocks.0.channel_mixer.0.conv.weight"], weight)

    train(SegmentationJob(), settings(output=str(tmp_path / "run"), epochs=1), data=data)
    run = str(tmp_path / "run")
    same, other = build_for(settings(checkpoint=run), 6), build_for(settings(checkpoint=run), 9)
    stored = load(run).state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in same.state_dict().items())
    assert other.decode_head.conv_seg.out_channels == 9
    assert torch.equal(other.neck.fpn_convs[0].conv.weight, stored["neck.fpn_convs.0.conv.weight"])
    with pytest.raises(RecNextError, match="does not fit --neck-channels and --head-channels"):
        build_for(settings(checkpoint=run, neck_channels=12), 6)
    first = build_for(settings(checkpoint=run, pretrained=True), 6).state_dict()  # a recipe may say pretrained
    assert all(torch.equal(value, stored[key]) for key, value in first.items())


def test_batchnorms_can_be_synchronised(monkeypatch, data, tmp_path):
    """One process: the conversion is made where there are several; here it must leave a run that works."""
    result = train(SegmentationJob(), settings(output=str(tmp_path / "run"), epochs=1, sync_batchnorm=True), data=data)
    assert len(result.records) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16}, "--image-size is 16"),
        ({"scale": (2.0, 0.5)}, "--scale is 2.0 0.5: expected two rising factors"),
        ({"num_classes": 1}, "--num-classes is 1"),
        ({"model_args": {"num_classes": 3}}, "--model-args may not hold num_classes"),
        ({"cat_max_ratio": 0.0}, "--cat-max-ratio is 0.0"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(RecNextError, match=message):
        settings(**changes)
