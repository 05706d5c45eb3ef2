"""The published detector's numbers, from tests/golden/mask_rcnn_m3.json: made once with MMDetection's heads."""

import pytest
import torch

from golden_fill import golden
from recnext.tasks.detection import Detector, load
from tasks.detection.detectors import (
    FirstSamples,
    freeze_statistics,
    golden_images,
    golden_targets,
    published_state,
    take_as_normalised,
)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Detector:
    """Loaded from a file laid out as the published ones: weights and what the training program noted."""
    path = tmp_path_factory.mktemp("published") / "mask_rcnn_m3.pth"
    meta = {"mmdet_version": "2.28.2", "CLASSES": ("person",), "epoch": 12, "iter": 87960}
    torch.save({"meta": meta, "state_dict": published_state(), "optimizer": {"param_groups": []}}, path)
    model = load(path, backbone="recnext_m3")
    take_as_normalised(model)
    return model


def test_published_layout_gives_coco_names(detector):
    assert detector.config.backbone == "recnext_m3"
    assert detector.labels[0] == "person"
    assert detector.labels[79] == "toothbrush"
    assert detector.config.category_ids is not None
    assert (detector.config.category_ids[0], detector.config.category_ids[79]) == (1, 90)


@pytest.mark.slow
def test_detections(detector):
    with torch.inference_mode():
        found = detector(list(golden_images()))
    for actual, image in zip(found, golden("mask_rcnn_m3.json")["images"], strict=True):
        rows = torch.tensor(image["detections"])
        assert actual["labels"].tolist() == rows[:, 1].long().tolist()
        torch.testing.assert_close(actual["scores"], rows[:, 0], rtol=0, atol=1e-4)
        torch.testing.assert_close(actual["boxes"], rows[:, 2:6], rtol=0, atol=0.05)
        assert actual["masks"].shape == (100, 1, 224, 320)
        areas = actual["masks"].sum((1, 2, 3)).float()
        assert (areas - rows[:, 6]).abs().max() <= 5


@pytest.mark.slow
def test_losses(detector):
    freeze_statistics(detector)
    detector.rpn.fg_bg_sampler = FirstSamples(256, 0.5)
    detector.roi_heads.sampler = FirstSamples(512, 0.25)
    with torch.no_grad():
        losses = {name: float(loss) for name, loss in detector(list(golden_images()), golden_targets()).items()}
    expected = golden("mask_rcnn_m3.json")["losses"]
    names = {
        "loss_objectness": "loss_rpn_cls",
        "loss_rpn_box_reg": "loss_rpn_bbox",
        "loss_classifier": "loss_cls",
        "loss_box_reg": "loss_bbox",
        "loss_mask": "loss_mask",
    }
    assert losses == {name: pytest.approx(expected[published], rel=1e-3) for name, published in names.items()}
