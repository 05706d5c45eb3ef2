"""Anchors of the published detectors: not rounded, and strides that do not depend on the image's size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""


class Anchors(nn.Module):
    """A box of each ratio at every place of every level, of area (`scale` * stride)².

    torchvision's generator rounds the boxes and takes the strides from the sizes of image and map.

    Args:
        strides: pixels between neighbours, one a level.
        scale: side of the square anchor in strides.
    """

    def __init__(self, strides: Sequence[int], *, scale: float = 8.0) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.scale = scale
        heights = torch.tensor(RATIOS).sqrt()
        half = torch.stack([-1 / heights, -heights, 1 / heights, heights], 1) / 2
        self.cells = [half * scale * stride for stride in strides]

    def num_anchors_per_location(self) -> list[int]:
        """Anchors at a place, one number a level."""
        return [len(RATIOS)] * len(self.strides)

    def forward(self, images, features: Sequence[Tensor]) -> list[Tensor]:  # type: ignore[no-untyped-def]
        """One (anchors, 4) tensor of x1, y1, x2, y2 in pixels an image: levels, then rows, columns, ratios."""
        levels = [
            _grid(level.shape[-2:], stride, cell.to(level.device))
            for level, stride, cell in zip(features, self.strides, self.cells, strict=True)
        ]
        return [torch.cat(levels)] * len(images.image_sizes)


def _grid(size: Sequence[int], stride: int, cell: Tensor) -> Tensor:
    y, x = (torch.arange(length, device=cell.device) * stride for length in size)
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + cell).reshape(-1, 4)
