"""Oracle: tests/golden/semantic_fpn_m3.json, computed once with the published heads on the weights of golden_fill."""

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F

import recnext
from golden_fill import _rng, assert_golden, fill, golden
from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms
from recnext.tasks.segmentation import SemanticFPN, build, segmentation_loss

DATA = golden("semantic_fpn_m3.json")


def parameters(model: torch.nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def golden_batch() -> tuple[torch.Tensor, torch.Tensor]:
    height, width = DATA["size"]
    rng = _rng(DATA["salt"] + "input")
    small = torch.from_numpy(rng.standard_normal((1, 3, height // 16, width // 16)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 150, (1, 1, height, width)))[:, 0]
    labels[:, : height // 2] = 255
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False), labels


def test_equals_published():
    model = fill(build("recnext_m3")).eval()
    outside = {key: list(value.shape) for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    assert outside == DATA["keys"]
    backbone = timm.create_model("recnext_m3", num_classes=0)
    assert [key for key in model.state_dict() if key.startswith("backbone.")] == [
        f"backbone.{key}" for key in backbone.state_dict()
    ]
    image, labels = golden_batch()
    with torch.inference_mode():
        logits = model(image)
        assert logits.shape == (1, 150, 48, 64)
        assert_golden(logits, DATA["logits"])
        whole = F.interpolate(logits, size=tuple(DATA["size"]), mode="bilinear", align_corners=False)
        whole = F.interpolate(whole, size=tuple(DATA["original_size"]), mode="bilinear", align_corners=False)
        assert_golden(whole.softmax(1), DATA["probabilities"])
        histogram = torch.bincount(whole.argmax(1).flatten(), minlength=150)
        assert (histogram - torch.tensor(DATA["argmax_histogram"])).abs().sum() < 20
        loss = segmentation_loss(logits, labels, normalisation="all")
        assert loss.item() == pytest.approx(DATA["loss"], rel=1e-3)

        fused = recnext.fuse(model)
        error = (fused(image) - logits).abs().max() / (logits.max() - logits.min())
    assert batchnorms(fused) == []
    assert error < 1e-4


@pytest.mark.parametrize(("name", "expected"), [("recnext_m3", 11974582), ("recnext_a3", 12809158)])
def test_published_parameters(name, expected):
    assert parameters(build(name)) == expected


@pytest.mark.parametrize(("name", "stride"), [("test_recnext_m", 4), ("test_recnext_a", 4), ("test_recnext_l", 8)])
@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_any_series_and_size(name, stride, size):
    model = build(name, num_classes=7, neck_channels=16, head_channels=8).eval()
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 7, -(-size[0] // stride), -(-size[1] // stride))
    assert model.stride == stride


@pytest.mark.parametrize("name", ["recnext_t", "recnext_s_share_channel"])
def test_published_l_series_builds(name):
    logits = build(name, num_classes=3).eval()(torch.randn(1, 3, 64, 64))
    assert logits.shape == (1, 3, 8, 8)


def test_every_parameter_gets_a_gradient():
    model = build("test_recnext_a", num_classes=5, neck_channels=16, head_channels=8)
    segmentation_loss(model(torch.randn(2, 3, 64, 64)), torch.randint(0, 5, (2, 64, 64))).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_loss_normalisations_by_hand():
    """Oracle: mean of -log softmax over the pixels, in float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 6, 8), generator=generator)
    labels[0, :3] = 255
    per_pixel = -logits.log_softmax(1).gather(1, labels.where(labels != 255, 0)[:, None])[:, 0]
    total = per_pixel[labels != 255].sum().item()
    assert segmentation_loss(logits, labels).item() == pytest.approx(total / (96 - 24), rel=1e-6)
    assert segmentation_loss(logits, labels, normalisation="all").item() == pytest.approx(total / 96, rel=1e-6)
    assert segmentation_loss(logits, torch.full_like(labels, 255)).item() == 0


def test_what_cannot_be_built():
    with pytest.raises(RecNextError, match="did you mean recnext_m3"):
        build("recnext_m33")
    with pytest.raises(RecNextError, match="resnet18 is no RecNeXt"):
        build("resnet18")
    with pytest.raises(RecNextError, match="at least two classes"):
        build("test_recnext_m", num_classes=1)
    assert isinstance(build("test_recnext_m", num_classes=2), SemanticFPN)
