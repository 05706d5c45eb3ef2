"""Masks of regions: out of objects' masks for training, and into images for prediction."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

THRESHOLD = 0.5
"""A pixel belongs to an object from this probability on."""


def crop_masks(masks: Tensor, boxes: Tensor, objects: Tensor, *, size: int) -> Tensor:
    """What is to be predicted in each box: its object's mask in size x size cells.

    Args:
        masks: (objects, H, W), 0 or 1.
        boxes: (N, 4) in pixels of the masks.
        objects: (N,) which mask each box looks at.
        size: cells a side.

    Returns:
        (N, size, size) float32 of 0 and 1: a cell is 1 where at least half of it is.
    """
    regions = torch.cat([objects[:, None].to(boxes), boxes], 1)
    crops = roi_align(masks[:, None].float(), regions, (size, size), 1.0, 0, aligned=True)
    return (crops[:, 0] >= THRESHOLD).float()


def paste_masks(probabilities: Tensor, boxes: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Puts masks of boxes into the image, bilinearly between the cells' centres, on unrounded boxes.

    Only the pixels about each box are computed: the cost follows the boxes' area, not the image's.

    Args:
        probabilities: (N, M, M) in 0..1.
        boxes: (N, 4) in pixels of the image.
        size: (H, W) of the image.

    Returns:
        (N, 1, H, W) bool.
    """
    height, width = size
    pasted = torch.zeros(len(boxes), 1, height, width, dtype=torch.bool, device=boxes.device)
    for mask, box, image in zip(probabilities, boxes.tolist(), pasted, strict=True):
        left, right = max(math.floor(box[0]) - 1, 0), min(math.ceil(box[2]) + 1, width)
        top, bottom = max(math.floor(box[1]) - 1, 0), min(math.ceil(box[3]) + 1, height)
        if left >= right or top >= bottom:
            continue
        x = _positions(left, right, box[0], box[2], like=mask)
        y = _positions(top, bottom, box[1], box[3], like=mask)
        grid = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)
        values = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        image[0, top:bottom, left:right] = values >= THRESHOLD
    return pasted


def _positions(first: int, last: int, start: float, end: float, *, like: Tensor) -> Tensor:
    """Centres of the pixels from `first` to `last` in -1..1 of the box; 0 all along a box of no extent."""
    if not end > start:
        return like.new_zeros(last - first)
    return (torch.arange(first, last, dtype=like.dtype, device=like.device) + 0.5 - start) / (end - start) * 2 - 1
