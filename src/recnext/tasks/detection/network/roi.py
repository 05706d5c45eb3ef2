"""What is done with each proposal: pooling from the pyramid, class, box and mask, and their losses."""

from collections.abc import Mapping, Sequence
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou, clip_boxes_to_image, roi_align

from recnext.tasks.detection.masks import crop_masks

from .boxes import ClampedBoxCoder, MaxIoUMatcher, grouped_nms

_FINEST_SIDE = 56  # pixels: boxes below twice that are pooled from the finest level
Target = Mapping[str, Tensor]
Detection = dict[str, Tensor]


class RoIPool(nn.Module):
    """Pools each box, with aligned RoIAlign at the maps' own resolution, from the level that fits its size.

    Args:
        strides: of the levels, finest first; the maps are named "0", "1", ...
        size: cells a side.
    """

    def __init__(self, strides: Sequence[int], *, size: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.size = size

    def forward(self, features: Mapping[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Maps (N, C, H_i, W_i) and (boxes, 4) an image to (all boxes, C, size, size), float32."""
        maps = [features[str(level)] for level in range(len(self.strides))]
        regions = torch.cat([torch.cat([torch.full_like(b[:, :1], i), b], 1) for i, b in enumerate(boxes)])
        sides = ((regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])).clamp(min=0).sqrt()
        levels = torch.log2(sides / _FINEST_SIDE + 1e-6).floor().clamp(0, len(maps) - 1)
        shape = (len(regions), maps[0].shape[1], self.size, self.size)
        pooled = maps[0].new_zeros(shape, dtype=torch.float32)
        for level, (stride, features_of_level) in enumerate(zip(self.strides, maps, strict=True)):
            here = torch.where(levels == level)[0]
            crops = roi_align(
                features_of_level.float(), regions[here], (self.size, self.size), 1 / stride, 0, aligned=True
            )
            pooled = pooled.index_put((here,), crops)
        return pooled


class RoIHeads(nn.Module):
    """Second stage of the detector, with torchvision's names of children and losses.

    Args:
        box_roi_pool: for class and box.
        box_head: pooled boxes to vectors.
        box_predictor: vectors to (class scores, box codes), background first.
        mask_roi_pool: for masks; None, as the next two, leaves them out.
        mask_head: pooled boxes to maps.
        mask_predictor: maps to a mask score a class.
        samples: boxes an image to learn from, a quarter of them objects at most.
    """

    score_thresh = 0.05
    nms_thresh = 0.5
    detections_per_img = 100

    def __init__(
        self,
        box_roi_pool: RoIPool,
        box_head: nn.Module,
        box_predictor: nn.Module,
        *,
        mask_roi_pool: Optional[RoIPool] = None,
        mask_head: Optional[nn.Module] = None,
        mask_predictor: Optional[nn.Module] = None,
        samples: int = 512,
    ) -> None:
        super().__init__()
        self.box_roi_pool, self.box_head, self.box_predictor = box_roi_pool, box_head, box_predictor
        self.mask_roi_pool, self.mask_head, self.mask_predictor = mask_roi_pool, mask_head, mask_predictor
        self.box_coder = ClampedBoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = MaxIoUMatcher(positive=0.5, negative=0.5, least=0.5)
        self.sampler = BalancedPositiveNegativeSampler(samples, 0.25)

    def has_mask(self) -> bool:
        """Whether masks are predicted."""
        return self.mask_predictor is not None

    def forward(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Optional[list[Target]] = None,
    ) -> tuple[list[Detection], dict[str, Tensor]]:
        """(detections, {}) in evaluation, ([], losses) in training."""
        if self.training:
            assert targets is not None
            return [], self.losses(features, proposals, targets)
        scores, codes = self.box_scores(features, proposals)
        found = self.detections(scores, codes, proposals, image_shapes)
        if self.has_mask():
            labels = torch.cat([each["labels"] for each in found])
            masks = self.mask_scores(features, [each["boxes"] for each in found])
            chosen = masks[torch.arange(len(masks), device=masks.device), labels].sigmoid()
            for each, part in zip(found, chosen.split([len(each["labels"]) for each in found]), strict=True):
                each["masks"] = part
        return found, {}

    def box_scores(self, features: Mapping[str, Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class scores (boxes, classes + 1) and codes (boxes, 4 * (classes + 1)), float32."""
        scores, codes = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes)))
        return scores.float(), codes.float()

    def mask_scores(self, features: Mapping[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """(boxes, classes + 1, 28, 28), float32."""
        assert self.mask_roi_pool is not None
        assert self.mask_head is not None
        assert self.mask_predictor is not None
        return self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes))).float()

    def detections(
        self, scores: Tensor, codes: Tensor, proposals: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> list[Detection]:
        """Boxes, labels (from 1) and scores of each image, the best first."""
        counts = [len(each) for each in proposals]
        boxes = self.box_coder.decode(codes, list(proposals)).split(counts)
        found = []
        for box, score, shape in zip(boxes, scores.softmax(-1).split(counts), image_shapes, strict=True):
            box, score = clip_boxes_to_image(box, shape)[:, 1:].reshape(-1, 4), score[:, 1:]
            label = torch.arange(1, score.shape[1] + 1, device=score.device).expand_as(score).reshape(-1)
            score = score.reshape(-1)
            kept = torch.where(score > self.score_thresh)[0]
            kept = kept[grouped_nms(box[kept], score[kept], label[kept], self.nms_thresh)[: self.detections_per_img]]
            found.append({"boxes": box[kept], "labels": label[kept], "scores": score[kept]})
        return found

    def losses(
        self, features: Mapping[str, Tensor], proposals: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """``loss_classifier``, ``loss_box_reg`` and, with masks, ``loss_mask``."""
        samples = [self.sample(boxes, target) for boxes, target in zip(proposals, targets, strict=True)]
        boxes = [sample[0] for sample in samples]
        labels = torch.cat([sample[1] for sample in samples])
        scores, codes = self.box_scores(features, boxes)
        positive = torch.where(labels > 0)[0]
        truth = torch.cat([target["boxes"][objects] for target, (_, _, objects) in zip(targets, samples, strict=True)])
        # only those of positive boxes count: others have no object
        expected = self.box_coder.encode_single(truth.float(), torch.cat(boxes)[positive].float())
        chosen = codes.reshape(len(codes), -1, 4)[positive, labels[positive]]
        losses = {
            "loss_classifier": F.cross_entropy(scores, labels),
            "loss_box_reg": F.l1_loss(chosen, expected, reduction="sum") / max(len(labels), 1),
        }
        if self.has_mask():
            losses["loss_mask"] = self.mask_loss(features, samples, targets)
        return losses

    def sample(self, proposals: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes to learn from in one image, their labels, and the object of each positive one.

        Proposals are matched first; then the objects' own boxes join them.
        """
        truth = target["boxes"].to(proposals)
        matches = self.matcher(box_iou(truth, proposals))
        own = torch.arange(len(truth), device=matches.device)
        boxes, objects = torch.cat([truth, proposals]), torch.cat([own, matches])
        labels = torch.zeros_like(objects)
        labels[objects >= 0] = target["labels"][objects[objects >= 0]]
        positive, negative = self.sampler([labels])
        chosen = torch.where(positive[0].bool() | negative[0].bool())[0]
        labels, objects = labels[chosen], objects[chosen]
        return boxes[chosen], labels, objects[labels > 0]

    def mask_loss(
        self,
        features: Mapping[str, Tensor],
        samples: Sequence[tuple[Tensor, Tensor, Tensor]],
        targets: Sequence[Target],
    ) -> Tensor:
        """Mean binary cross entropy of the masks of positive boxes, each for its own class."""
        boxes = [box[label > 0] for box, label, _ in samples]
        labels = torch.cat([label[label > 0] for _, label, _ in samples])
        scores = self.mask_scores(features, boxes)
        if len(labels) == 0:
            return scores.sum() * 0
        size = scores.shape[-1]
        expected = torch.cat(
            [
                crop_masks(target["masks"], box, objects, size=size)
                for target, box, (_, _, objects) in zip(targets, boxes, samples, strict=True)
                if len(box)
            ]
        )
        chosen = scores[torch.arange(len(labels), device=labels.device), labels]
        return F.binary_cross_entropy_with_logits(chosen, expected)
