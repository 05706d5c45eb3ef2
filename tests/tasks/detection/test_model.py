import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import box_iou

from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms, fuse
from recnext.tasks.detection import create
from recnext.tasks.detection.masks import crop_masks, paste_masks
from recnext.tasks.detection.network.anchors import Anchors
from recnext.tasks.detection.network.boxes import MaxIoUMatcher
from recnext.tasks.detection.network.resize import resized_size
from tasks.detection.detectors import square_target, tiny


@pytest.mark.parametrize("backbone", ["test_recnext_m", "test_recnext_a", "test_recnext_l", "resnet18", "test_vit2"])
def test_all_backbones_give_the_same_levels(backbone):
    if backbone == "test_vit2":
        with pytest.raises(RecNextError, match="a pyramid needs maps of strides 4 to 32"):
            tiny(backbone=backbone)
        return
    model = tiny(backbone=backbone)
    assert model.backbone.strides == (4, 8, 16, 32, 64)
    with torch.inference_mode():
        levels = model.backbone(torch.randn(1, 3, 128, 192))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape) for level in levels.values()] == [
        (1, 16, 128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)
    ]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("backbone", ["test_recnext_m", "test_recnext_a", "test_recnext_l"])
def test_learns_and_predicts(backbone, masks):
    model = tiny(backbone=backbone, masks=masks)
    images = [torch.rand(3, 64, 64), torch.rand(3, 48, 80)]
    targets = [square_target(1, masks=masks), square_target(3, size=48, masks=masks)]
    if masks:
        targets[1]["masks"] = F.pad(targets[1]["masks"], (0, 32))
    losses = model.train()(images, targets)
    names = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert set(losses) == names | ({"loss_mask"} if masks else set())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval().roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        found = model(images)
    assert [set(each) for each in found] == [{"boxes", "labels", "scores"} | ({"masks"} if masks else set())] * 2
    for each, image in zip(found, images, strict=True):
        assert len(each["boxes"]) == 100
        assert each["labels"].min() >= 1
        assert each["labels"].max() <= 3
        if masks:
            assert each["masks"].shape == (100, 1, *image.shape[1:])
            assert each["masks"].dtype == torch.bool


def test_an_image_without_objects_is_background():
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "masks": torch.zeros(0, 64, 64)}
    losses = tiny().train()([torch.rand(3, 64, 64)] * 2, [empty, empty])
    assert losses["loss_mask"] == 0
    assert losses["loss_box_reg"] == 0
    assert losses["loss_classifier"] > 0


def test_fused_detector_gives_the_same():
    model = tiny()
    folded = fuse(model)
    assert batchnorms(folded) == []
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        for fused, original in zip(folded.backbone(image).values(), model.backbone(image).values(), strict=True):
            torch.testing.assert_close(fused, original, rtol=1e-3, atol=1e-4)


def test_image_size_may_be_changed():
    model = tiny(min_size=64, max_size=96)
    assert model.transform([torch.rand(3, 50, 100)])[0].image_sizes == [(48, 96)]
    model.transform.min_size, model.transform.max_size = (32,), 200
    assert model.transform([torch.rand(3, 50, 100)])[0].image_sizes == [(32, 64)]


def test_resized_size_rounds_as_published():
    """int(x * scale + 0.5): the 427x640 of COCO becomes 800x1199, which flooring would make 800x1198 or less."""
    assert resized_size(427, 640, min_size=800, max_size=1333) == (800, 1199)
    assert resized_size(333, 1000, min_size=800, max_size=1333) == (444, 1333)


def test_anchors_are_centred_on_strides_and_unrounded():
    anchors = Anchors((4, 8))
    images = type("Images", (), {"image_sizes": [(16, 16)]})()
    (boxes,) = anchors(images, [torch.zeros(1, 1, 3, 5), torch.zeros(1, 1, 2, 3)])
    assert boxes.shape == (3 * (15 + 6), 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres[3 * 7].tolist() == [8, 4]  # row 1, column 2 of five
    sizes = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sizes.prod(1)[:45], torch.full((45,), 32.0**2))
    torch.testing.assert_close((sizes[:, 1] / sizes[:, 0])[:3], torch.tensor([0.5, 1.0, 2.0]))


def matched_by_loops(iou, positive, negative, least):
    """The rule of MMDetection's MaxIoUAssigner, written down object by object."""
    matches = []
    for candidate in range(iou.shape[1]):
        best = float(iou[:, candidate].max())
        owner = int(iou[:, candidate].argmax())
        matches.append(-1 if best < negative else owner if best >= positive else -2)
    for owner in range(iou.shape[0]):
        best = float(iou[owner].max())
        if best >= least:
            for candidate in range(iou.shape[1]):
                if float(iou[owner, candidate]) == best:
                    matches[candidate] = owner
    return matches


@pytest.mark.parametrize("thresholds", [(0.7, 0.3, 0.3), (0.5, 0.5, 0.5), (0.9, 0.2, 0.0)])
def test_matcher_follows_the_rule(thresholds):
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(60, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 4 + 8 * torch.rand(60, 2, generator=generator)], 1)
    boxes[30] = boxes[40] = boxes[2]  # ties
    iou = box_iou(boxes[:8], boxes[8:])
    positive, negative, least = thresholds
    matches = MaxIoUMatcher(positive=positive, negative=negative, least=least)(iou)
    assert matches.tolist() == matched_by_loops(iou, *thresholds)


def test_pasted_masks_equal_whole_image_sampling():
    """The definition: each pixel's centre is looked up bilinearly in the mask stretched over the box."""
    generator = torch.Generator().manual_seed(0)
    masks = F.interpolate(torch.rand(6, 1, 5, 5, generator=generator), size=28, mode="bicubic").clamp(0, 1)[:, 0]
    boxes = torch.tensor(
        [[3.3, 4.2, 20.7, 30.1], [-5, -3, 12, 60], [30, 30, 70, 70], [8, 8, 8.5, 9], [0, 0, 48, 40], [20, 5, 20, 9]]
    )
    height, width = 40, 48
    pasted = paste_masks(masks, boxes, size=(height, width))
    assert pasted.shape == (6, 1, height, width)
    for mask, (x1, y1, x2, y2), actual in zip(masks, boxes.double().tolist(), pasted[:, 0], strict=True):
        if x2 <= x1:
            continue
        x = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).float()
        whole = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0] >= 0.5
        assert (actual != whole).sum() <= 2  # rounding at the threshold


def test_cropped_masks_are_the_objects_part_in_the_box():
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[1, 8:24, 8:16] = 1
    crops = crop_masks(
        masks, torch.tensor([[8.0, 8.0, 24.0, 24.0], [0.0, 0.0, 8.0, 8.0]]), torch.tensor([1, 1]), size=8
    )
    assert crops[0].tolist() == [[1.0] * 4 + [0.0] * 4] * 8
    assert crops[1].sum() == 0


def test_unknown_options_and_values_are_refused():
    with pytest.raises(RecNextError, match="no option 'chanels'"):
        create("test_recnext_m", chanels=3)
    with pytest.raises(RecNextError, match="min_size 800 and max_size 100"):
        create("test_recnext_m", max_size=100)
    with pytest.raises(RecNextError, match="2 class_names for 3 classes"):
        tiny(class_names=("a", "b"))
    with pytest.raises(RecNextError, match="no network is called"):
        create("recnext_m9")
