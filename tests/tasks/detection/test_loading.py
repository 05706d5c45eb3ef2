import pytest
import timm
import torch

from recnext.checkpoints import save
from recnext.checkpoints.metadata import save_checkpoint
from recnext.errors import RecNextError
from recnext.nn.fusion import fuse
from recnext.tasks.detection import create, load
from recnext.tasks.detection.checkpoint import describe, from_published
from tasks.detection.detectors import tiny


def as_published(model):
    """The state dict under MMDetection's keys: the inverse of the loader's table, written down separately."""
    published = {}
    for key, value in model.state_dict().items():
        key = key.replace("backbone.body.stages_", "backbone.stages.").replace("backbone.body.", "backbone.")
        key = key.replace("backbone.fpn.inner_blocks.", "neck.lateral_convs.")
        key = key.replace("backbone.fpn.layer_blocks.", "neck.fpn_convs.")
        if key.startswith(("neck.", "roi_heads.mask_head.")):
            key = key.replace(".0.weight", ".conv.weight").replace(".0.bias", ".conv.bias")
        for ours, theirs in {
            "rpn.head.conv.0.0.": "rpn_head.rpn_conv.",
            "rpn.head.cls_logits.": "rpn_head.rpn_cls.",
            "rpn.head.bbox_pred.": "rpn_head.rpn_reg.",
            "roi_heads.box_head.fc6.": "roi_head.bbox_head.shared_fcs.0.",
            "roi_heads.box_head.fc7.": "roi_head.bbox_head.shared_fcs.1.",
            "roi_heads.mask_head.": "roi_head.mask_head.convs.",
            "roi_heads.mask_predictor.conv5_mask.": "roi_head.mask_head.upsample.",
        }.items():
            key = key.replace(ours, theirs)
        if "cls_score" in key:
            key, value = (
                key.replace("roi_heads.box_predictor.cls_score", "roi_head.bbox_head.fc_cls"),
                value.roll(-1, 0),
            )
        elif "box_predictor.bbox_pred" in key:
            key, value = key.replace("roi_heads.box_predictor.bbox_pred", "roi_head.bbox_head.fc_reg"), value[4:]
        elif "mask_fcn_logits" in key:
            key = key.replace("roi_heads.mask_predictor.mask_fcn_logits", "roi_head.mask_head.conv_logits")
            value = value[1:]
        published[key] = value
    return published


@pytest.mark.parametrize("backbone", ["test_recnext_m", "test_recnext_a"])
def test_published_keys_come_back(tmp_path, backbone):
    model = tiny(backbone=backbone)
    torch.save({"meta": {"epoch": 12}, "state_dict": as_published(model)}, tmp_path / "published.pth")
    loaded = load(tmp_path / "published.pth", backbone=backbone, min_size=64, max_size=96)
    for (key, actual), expected in zip(loaded.state_dict().items(), model.state_dict().values(), strict=True):
        if "box_predictor.bbox_pred" in key:
            actual, expected = actual[4:], expected[4:]
        elif "mask_fcn_logits" in key:
            actual, expected = actual[1:], expected[1:]
        assert torch.equal(actual, expected), key
    image = torch.rand(3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded([image])[0]["boxes"], model([image])[0]["boxes"])


def test_the_backbone_is_read_off_the_tensors(tmp_path):
    torch.save(as_published(create("recnext_m0", num_classes=2, channels=8, box_features=8)), tmp_path / "m0.pth")
    assert load(tmp_path / "m0.pth").config.backbone == "recnext_m0"
    with pytest.raises(RecNextError, match="has the backbone recnext_m0, not recnext_m3: give backbone='recnext_m0'"):
        load(tmp_path / "m0.pth", backbone="recnext_m3")


@pytest.mark.parametrize("fused", [False, True])
def test_own_files_need_no_argument(tmp_path, fused):
    names = ("disc", "ring", "cross")
    model = tiny(class_names=names, category_ids=(2, 5, 9), anchor_scale=4.0, masks=not fused)
    model = fuse(model) if fused else model
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, model.state_dict(), describe(model))
    loaded = load(path)
    assert loaded.config == model.config
    assert loaded.labels == names
    assert not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_other_classes_get_new_predictors_on_the_same_rest(tmp_path):
    model = tiny(class_names=("a", "b", "c"))
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, model.state_dict(), describe(model))
    loaded = load(path, num_classes=5)
    assert loaded.labels == tuple(f"class {i}" for i in range(1, 6))
    for key, value in loaded.state_dict().items():
        if "_predictor." not in key or "conv5_mask" in key:
            assert torch.equal(value, model.state_dict()[key]), key


def test_a_classifier_is_no_detector(tmp_path):
    save(timm.create_model("recnext_m0", num_classes=3), tmp_path / "classifier.safetensors")
    with pytest.raises(RecNextError, match="holds a classifier, no detector"):
        load(tmp_path / "classifier.safetensors")
    body = create("recnext_m0", checkpoint=tmp_path / "classifier.safetensors", num_classes=2).backbone.body
    expected = load_classifier(tmp_path / "classifier.safetensors")
    assert torch.equal(body.stem.stem[0].conv.weight, expected.stem.stem[0].conv.weight)


def load_classifier(path):
    from recnext.checkpoints import load as load_network

    return load_network(checkpoint=path)


def test_what_does_not_fit_is_named(tmp_path):
    state = as_published(tiny())
    with pytest.raises(RecNextError, match=r"'bbox_head.fc_cls.weight', which is no part of a published Mask R-CNN"):
        from_published({**state, "bbox_head.fc_cls.weight": torch.zeros(1)})
    torch.save({key: value for key, value in state.items() if "rpn_reg" not in key}, tmp_path / "part.pth")
    with pytest.raises(RecNextError, match=r"lacks rpn.head.bbox_pred.weight, rpn.head.bbox_pred.bias"):
        load(tmp_path / "part.pth", backbone="test_recnext_m")
