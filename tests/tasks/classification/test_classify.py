import threading

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

import recnext
from checkpoints.files import network
from recnext.checkpoints import save
from recnext.data.images import Unreadable
from recnext.errors import RecNextError
from recnext.tasks.classification.predict import Prediction, classify


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(7):
        height, width = 40 + 9 * index, 90 - 5 * index
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def paths(folder):
    return sorted(str(path) for path in folder.glob("*.png"))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_equals_timms_own_evaluation(folder, batch_size):
    model = network()
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    found = list(classify(model, paths(folder), topk=3, batch_size=batch_size, workers=2))
    assert [prediction.image for prediction in found] == paths(folder)
    for prediction in found:
        with Image.open(prediction.image) as image, torch.inference_mode():
            expected = model(transform(image)[None]).softmax(1)[0]
        assert [score.index for score in prediction.classes] == expected.topk(3).indices.tolist()
        for score in prediction.classes:
            assert score.probability == pytest.approx(float(expected[score.index]), abs=1e-5)
            assert score.name == str(score.index)


def test_unreadable_images_keep_their_place(folder):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:500])
    found = list(classify(network(), [*paths(folder), "gone.png"], batch_size=2))
    assert [type(item) for item in found] == [*[Prediction] * 3, Unreadable, *[Prediction] * 3, Unreadable]
    assert found[-1] == Unreadable("gone.png", "no such file")
    assert [type(item) for item in classify(network(), ["a.png", "b.png"], batch_size=2)] == [Unreadable] * 2


def test_names_from_the_checkpoint_or_imagenet(folder, tmp_path):
    save(network(), tmp_path / "x.safetensors", class_names=list("abcdefg"))
    model = recnext.load(checkpoint=tmp_path / "x.safetensors")
    prediction = next(classify(model, paths(folder), topk=99))
    assert {score.name for score in prediction.classes} == set("abcdefg")
    assert sum(score.probability for score in prediction.classes) == pytest.approx(1, abs=1e-5)
    prediction = next(classify(model, paths(folder), class_names=list("tuvwxyz"), topk=1))
    assert prediction.classes[0].name == "tuvwxyz"[prediction.classes[0].index]
    always_first = nn.Conv2d(3, 1000, 1)
    always_first.num_classes = 1000

    def forward(x):
        return torch.eye(1000)[:1].repeat(len(x), 1)

    prediction = next(classify(always_first, paths(folder), forward=forward, topk=1))
    assert prediction.classes[0].name.startswith("tench")


def test_size_and_grey_images(folder):
    seen = []

    def forward(x):
        seen.append(tuple(x.shape))
        return torch.zeros(len(x), 7)

    next(classify(network(), paths(folder), forward=forward, batch_size=2, image_size=(48, 80)))
    assert seen == [(2, 3, 48, 80)]
    model = timm.create_model("test_recnext_m", num_classes=7, in_chans=1)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (1, 64, 64)}
    next(classify(model, paths(folder), forward=forward, batch_size=2))
    assert seen[-1] == (2, 1, 64, 64)


def test_memory_is_bounded_and_threads_end(folder):
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield paths(folder)[0]

    results = classify(network(), endless(), batch_size=4, workers=2)
    for _ in range(20):
        next(results)
    assert asked <= 20 + 4 + 2 * 2 + 4
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_mistakes(folder):
    with pytest.raises(RecNextError, match="topk=0 must be 1"):
        next(classify(network(), paths(folder), topk=0))
    with pytest.raises(RecNextError, match="has no classes"):
        next(classify(network(num_classes=0), paths(folder)))
    with pytest.raises(RecNextError, match="2 class names for a network of 7"):
        next(classify(network(), paths(folder), class_names=["a", "b"]))
    four = timm.create_model("test_recnext_m", in_chans=4, num_classes=7)
    with pytest.raises(RecNextError, match="images of 4 channels"):
        next(classify(four, paths(folder)))
