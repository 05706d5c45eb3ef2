"""Networks of matched accuracy from timm, and the published ImageNet-1K top-1 of every network measured."""

from dataclasses import dataclass
from typing import Optional

from recnext.checkpoints.published import published


@dataclass(frozen=True)
class PublishedAccuracy:
    """ImageNet-1K top-1 in percent, at the image size it was published for."""

    top1: float
    size: int = 224


# From each network's paper, without extra data; the better of distilled and plain where both are given.
PEERS: dict[str, PublishedAccuracy] = {
    "repvit_m1_0": PublishedAccuracy(80.0),  # arXiv 2307.09283, table 1, 300 epochs distilled
    "repvit_m1_1": PublishedAccuracy(80.7),  # the same
    "fastvit_t8": PublishedAccuracy(76.7, 256),  # arXiv 2303.14189, distilled
    "fastvit_t12": PublishedAccuracy(80.3, 256),  # the same
    "mobilenetv4_conv_small": PublishedAccuracy(73.8),  # arXiv 2404.10518
    "mobilenetv4_conv_medium": PublishedAccuracy(79.9, 256),  # the same
    "starnet_s3": PublishedAccuracy(77.3),  # arXiv 2403.19967
    "efficientformerv2_s1": PublishedAccuracy(79.0),  # arXiv 2212.08059, 300 epochs distilled
    "mobileone_s2": PublishedAccuracy(77.4),  # arXiv 2206.04040
    "shvit_s2": PublishedAccuracy(75.2),  # arXiv 2401.16456
    "convnextv2_atto": PublishedAccuracy(76.7),  # arXiv 2301.00808
    "resnet18": PublishedAccuracy(71.5),  # arXiv 2110.00476, procedure A1
}

OURS = ("recnext_m0", "recnext_m1", "recnext_m3", "recnext_a1", "recnext_a3", "recnext_t", "recnext_s")
"""What is measured with the peers unless names are given."""


def accuracy_of(name: str) -> Optional[PublishedAccuracy]:
    """Published accuracy of one of our networks (distilled) or of a peer; None if unknown."""
    row = published()["classification"].get(name)
    if row is not None:
        return PublishedAccuracy(row["top1_distilled"])
    return PEERS.get(name)
