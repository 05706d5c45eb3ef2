"""Semantic FPN's neck and head (Kirillov et al., Panoptic Feature Pyramid Networks, arXiv 1901.02446).

Children are named as in the published checkpoints: ``neck.lateral_convs.i.conv``, ``neck.fpn_convs.i.conv``,
``decode_head.scale_heads.i.j.{conv,bn}``, ``decode_head.conv_seg``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recnext.nn.mixers.conv_norm import norm_scale_shift, scale_outputs, with_bias


class NamedConv(nn.Module):
    """A convolution with bias under the name `conv`, as the published checkpoints have it."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ConvNormReLU(nn.Module):
    """3x3 convolution, BatchNorm, ReLU; children `conv` and `bn`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))

    @torch.no_grad()
    def fuse(self) -> nn.Module:
        """Folds the norm into the convolution, in place."""
        if not isinstance(self.bn, nn.Identity):
            scale, shift = norm_scale_shift(self.bn)
            self.conv = with_bias(self.conv)
            scale_outputs(self.conv, scale, shift)
            self.bn = nn.Identity()
        return self


class FPN(nn.Module):
    """Feature pyramid: every map to one width, and each added to the finer ones (Lin et al., arXiv 1612.03144).

    Args:
        in_channels: of the maps, finest first.
        channels: of every map returned.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(NamedConv(width, channels, 1) for width in in_channels)
        self.fpn_convs = nn.ModuleList(NamedConv(channels, channels, 3) for _ in in_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        maps = [lateral(x) for lateral, x in zip(self.lateral_convs, features, strict=True)]
        for i in range(len(maps) - 1, 0, -1):  # coarse to fine
            maps[i - 1] = maps[i - 1] + F.interpolate(maps[i], size=maps[i - 1].shape[2:], mode="nearest")
        return [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=True)]


class SemanticHead(nn.Module):
    """Brings every map to the finest one's size, adds them and classifies each place.

    Map i passes max(1, i) convolutions; for i > 0 each is followed by a bilinear enlargement to twice the size.

    Args:
        levels: number of maps.
        in_channels: of every map.
        channels: of the sum.
        num_classes: of the logits.
        dropout: share of the sum's channels dropped while training.
    """

    def __init__(self, levels: int, in_channels: int, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.scale_heads = nn.ModuleList()
        for level in range(levels):
            parts: list[nn.Module] = []
            for step in range(max(1, level)):
                parts.append(ConvNormReLU(channels if step else in_channels, channels))
                if level:
                    parts.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.scale_heads.append(nn.Sequential(*parts))
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        assert self.conv_seg.bias is not None
        nn.init.zeros_(self.conv_seg.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total = self.scale_heads[0](maps[0])
        for head, x in zip(list(self.scale_heads)[1:], maps[1:], strict=True):
            x = head(x)
            # Sides that are no multiple of the network's stride; an exported program must take both kinds.
            if torch.compiler.is_exporting() or x.shape[2:] != total.shape[2:]:
                x = F.interpolate(x, size=total.shape[2:], mode="bilinear", align_corners=False)
            total = total + x
        return self.conv_seg(self.dropout(total))
