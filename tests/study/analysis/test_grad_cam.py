"""Grad-CAM against the map that a pooled linear classifier makes it, by arithmetic."""

import sys

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from checkpoints.files import network
from recnext.errors import MissingExtraError, RecNextError
from recnext.nn.fusion import fuse
from recnext.tasks.classification.activation_maps import class_activation_maps, default_stage

pytest.importorskip("pytorch_grad_cam")


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_a", "test_recnext_l"])
def test_last_stage_of_a_pooled_linear_classifier(name) -> None:
    """Class c is linear in the pooled map, so channel k weighs W[c, k] at every position."""
    model = fuse(network(name))
    torch.manual_seed(0)
    image = torch.randn(1, 3, 192, 192)
    with torch.no_grad():
        features = model.forward_features(image)[0]
    weight = next(part for part in model.head.modules() if isinstance(part, nn.Linear)).weight.detach()
    actual = class_activation_maps(model, image, [2, 5], stage=3)
    for heat, index in zip(actual, (2, 5), strict=True):
        expected = torch.einsum("k,khw->hw", weight[index], features).relu()
        expected = (expected - expected.min()) / (expected - expected.min()).max()
        expected = F.interpolate(expected[None, None], size=(192, 192), mode="bilinear")[0, 0]
        expected = (expected - expected.min()) / (expected - expected.min()).max()
        torch.testing.assert_close(heat, expected, rtol=1e-3, atol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_stage_taken_still_has_places() -> None:
    model = network()  # strides 4, 8, 16, 32
    assert [default_stage(model, torch.zeros(1, 3, size, size)) for size in (128, 64, 32, 16)] == [3, 2, 1, 0]
    assert default_stage(network("test_recnext_l"), torch.zeros(1, 3, 256, 256)) == 3  # strides 8 to 64


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_mambaout", "test_convnext", "mlla_nano_recattn"])
def test_other_networks(name) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5).eval()
    size = model.pretrained_cfg["input_size"][-1]
    heat = class_activation_maps(model, torch.randn(1, 3, size, size), [1, 4])
    assert heat.shape == (2, size, size)
    assert heat.min() >= 0
    peaks = heat.amax((1, 2))  # 0 where nothing speaks for a class
    assert all(abs(peak - round(peak)) < 1e-3 for peak in peaks.tolist())
    assert peaks.any()


def test_mistakes(monkeypatch) -> None:
    model, image = network(), torch.zeros(1, 3, 64, 64)
    with pytest.raises(RecNextError, match="stage 4: this network has 4"):
        class_activation_maps(model, image, [0], stage=4)
    with pytest.raises(RecNextError, match="class 7: this network has 7 classes"):
        class_activation_maps(model, image, [7])
    with pytest.raises(RecNextError, match="does not name the modules"):
        class_activation_maps(nn.Conv2d(3, 3, 1), image, [0])
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    monkeypatch.setattr("recnext.tasks.classification.activation_maps.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"recnext\[explain\]"):
        class_activation_maps(model, image, [0])
