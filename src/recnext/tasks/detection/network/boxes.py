"""Coding of boxes relative to others, and which box belongs to which object, as in the published detectors."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, nms

_SHIFTED_NMS = 10_000  # boxes, up to which the published suppression shifts groups apart


class ClampedBoxCoder(BoxCoder):
    """torchvision's coder with the changes of size limited on both sides, always in float32."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes of (N, 4 * classes) codes relative to (N, 4) boxes, as (N, 4 * classes)."""
        codes = rel_codes.float().reshape(len(rel_codes), -1, 4)
        codes = codes / codes.new_tensor(self.weights)
        boxes = boxes.float()
        centres = (boxes[:, :2] + boxes[:, 2:]) * 0.5
        sizes = boxes[:, 2:] - boxes[:, :2]
        limit = self.bbox_xform_clip
        middle = centres[:, None] + sizes[:, None] * codes[..., :2]
        half = sizes[:, None] * codes[..., 2:].clamp(-limit, limit).exp() * 0.5
        return torch.cat([middle - half, middle + half], -1).flatten(1)


class MaxIoUMatcher:
    """Matches candidates to objects by intersection over union (IoU); torchvision's `Matcher` interface.

    A candidate belongs to the object that it overlaps most, where IoU is at least `positive`. Then each object whose
    best IoU is at least `least` also takes the candidates that reach this best one, from other objects too; the last
    object wins.

    Args:
        positive: IoU from which a candidate is a match.
        negative: IoU below which it is background.
        least: IoU from which an object takes its best candidates.
    """

    BELOW_LOW_THRESHOLD = -1
    BETWEEN_THRESHOLDS = -2

    def __init__(self, *, positive: float, negative: float, least: float) -> None:
        self.positive = positive
        self.negative = negative
        self.least = least

    def __call__(self, iou: Tensor) -> Tensor:
        """(objects, candidates) to the object of each candidate, -1 for background, -2 for neither."""
        objects, candidates = iou.shape
        if objects == 0 or candidates == 0:
            return iou.new_full((candidates,), self.BELOW_LOW_THRESHOLD, dtype=torch.int64)
        highest, nearest = iou.max(0)
        matches = torch.full_like(nearest, self.BETWEEN_THRESHOLDS)
        matches[highest < self.negative] = self.BELOW_LOW_THRESHOLD
        matches = torch.where(highest >= self.positive, nearest, matches)
        best = iou.max(1).values
        owner, candidate = torch.where((iou == best[:, None]) & (best >= self.least)[:, None])
        taken = torch.full_like(nearest, -1).scatter_reduce(0, candidate, owner, "amax")
        return torch.where(taken >= 0, taken, matches)


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression within each group, as published.

    Groups are shifted apart and suppressed together. The shift rounds the boxes, and a box at the very threshold may
    fall on the other side of it than in `torchvision.ops.batched_nms`.

    Args:
        boxes: (N, 4) in pixels, none below 0.
        scores: (N,).
        groups: (N,) integers from 0.
        threshold: IoU above which the lower score goes.

    Returns:
        Indices of those kept, the highest score first.
    """
    if len(boxes) >= _SHIFTED_NMS or len(boxes) == 0:
        return batched_nms(boxes, scores, groups, threshold)
    shift = groups.to(boxes) * (boxes.max() + 1)
    return nms(boxes + shift[:, None], scores, threshold)
