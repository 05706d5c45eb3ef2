"""The region proposal network of the published detectors."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image

from .anchors import Anchors
from .boxes import ClampedBoxCoder, MaxIoUMatcher, grouped_nms


class Float32RPNHead(RPNHead):
    """torchvision's head; scores and codes leave it in float32, whatever precision it computes in."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores (N, 3, H, W) and codes (N, 12, H, W), one of each a level."""
        scores, codes = super().forward(x)
        return [level.float() for level in scores], [level.float() for level in codes]


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's network with the published matching, box codes and L1 loss.

    Args:
        anchors: of all levels.
        channels: of the pyramid.
        proposals: boxes an image that are kept; before suppression as many a level, in training twice as many.
    """

    def __init__(self, anchors: Anchors, *, channels: int, proposals: int = 1000) -> None:
        super().__init__(
            anchors,
            Float32RPNHead(channels, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * proposals, "testing": proposals},
            post_nms_top_n={"training": proposals, "testing": proposals},
            nms_thresh=0.7,
        )
        self.box_coder = ClampedBoxCoder((1.0, 1.0, 1.0, 1.0))
        self.proposal_matcher: Any = MaxIoUMatcher(positive=0.7, negative=0.3, least=0.3)

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The best boxes of each level after non-maximum suppression, and their probabilities.

        As published, levels with too many anchors are ranked by probability, not by score, and others are not ranked:
        high scores have equal probabilities in float32, and the order among these decides what suppression leaves.
        """
        objectness = objectness.detach().reshape(len(proposals), -1)
        starts = [sum(num_anchors_per_level[:level]) for level in range(len(num_anchors_per_level))]
        boxes, scores = [], []
        for box, score, shape in zip(proposals, objectness, image_shapes, strict=True):
            probability = torch.cat([level.sigmoid() for level in score.split(num_anchors_per_level)])
            best = [self._best(level) for level in probability.split(num_anchors_per_level)]
            chosen = torch.cat([indices + start for indices, start in zip(best, starts, strict=True)])
            box, probability = clip_boxes_to_image(box[chosen], shape), probability[chosen]
            levels = torch.cat([torch.full_like(indices, level) for level, indices in enumerate(best)])
            whole = ((box[:, 2:] - box[:, :2]) > 0).all(1)
            box, probability, levels = box[whole], probability[whole], levels[whole]
            kept = grouped_nms(box, probability, levels, self.nms_thresh)[: self.post_nms_top_n()]
            boxes.append(box[kept])
            scores.append(probability[kept])
        return boxes, scores

    def _best(self, probability: Tensor) -> Tensor:
        """Indices of the anchors of a level that go on."""
        limit = self.pre_nms_top_n()
        if len(probability) <= limit:
            return torch.arange(len(probability), device=probability.device)
        return probability.sort(descending=True).indices[:limit]

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Binary cross entropy and L1 loss of the sampled anchors, both divided by their number."""
        positive, negative = (torch.cat(sampled).bool() for sampled in self.fg_bg_sampler(labels))
        sampled = positive | negative
        truth, codes = torch.cat(labels), torch.cat(regression_targets)
        count = sampled.sum().clamp(min=1)
        scores = objectness.flatten()
        score_loss = F.binary_cross_entropy_with_logits(scores[sampled], truth[sampled], reduction="sum")
        box_loss = F.l1_loss(pred_bbox_deltas[positive], codes[positive], reduction="sum")
        return score_loss / count, box_loss / count
