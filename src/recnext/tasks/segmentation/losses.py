"""Cross entropy over pixels, in the two normalisations in use."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

IGNORE = 255
"""Label of pixels that count nowhere."""

Normalisation = Literal["all", "valid"]


def segmentation_loss(logits: Tensor, labels: Tensor, *, normalisation: Normalisation = "valid") -> Tensor:
    """Mean cross entropy at the labels' resolution, to which the logits are enlarged bilinearly.

    Args:
        logits: (N, classes, h, w) of any precision; computed in float32.
        labels: int64 (N, H, W), 255 where a pixel counts nowhere.
        normalisation: "valid" divides by the pixels with a label; "all" divides by all N H W pixels, as the
            published ADE20K training did, so that an image with few labelled pixels weighs less. Equal where no
            pixel is 255.

    Returns:
        A float32 scalar; 0 where no pixel has a label.
    """
    logits = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    pixels = labels.numel() if normalisation == "all" else (labels != IGNORE).sum().clamp(min=1)
    return total / pixels
