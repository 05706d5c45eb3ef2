"""Blocks of the L series: a mixer on part of the channels, and the stage whose blocks share what they mixed."""

from collections.abc import Sequence
from math import gcd
from typing import Any, List, Optional, Tuple, cast  # noqa: UP035 (TorchScript reads List and Tuple)

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import checkpoint
from torch import Tensor, nn

from recnext.nn.mixers.conv_norm import ConvNorm

from .blocks import Act, channel_mixer


class RepMixer(nn.Module):
    """Depthwise 3x3 ConvNorm + depthwise 1x1 ConvNorm + identity; ``fuse()`` gives one 3x3 convolution."""

    def __init__(self, channels: int, *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        options: dict[str, Any] = {"groups": channels, "bias": True, "device": device, "dtype": dtype}
        self.lk = ConvNorm(channels, channels, 3, padding=1, **options)
        self.sk = ConvNorm(channels, channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.lk(x) + self.sk(x) + x

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """One depthwise 3x3 convolution equal to the three branches in eval mode."""
        fused, small = self.lk.fuse(), self.sk.fuse()
        fused.weight.add_(F.pad(small.weight + 1.0, (1, 1, 1, 1)))
        cast(Tensor, fused.bias).add_(cast(Tensor, small.bias))
        return fused


class PartialChannels(nn.Module):
    """Applies `attn` to the first `part` channels; the rest pass through."""

    def __init__(self, attn: nn.Module, part: int) -> None:
        super().__init__()
        self.attn = attn
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.attn(x[:, : self.part]), x[:, self.part :]], dim=1)


class PartialBlock(nn.Module):
    """x = rep_mixer(x); x + drop_path(channel_mixer(token_mixer(x))).

    Without a token mixer the block takes part in a SharedStage: it adds what the blocks before it mixed.
    """

    def __init__(
        self,
        channels: int,
        token_mixer: Optional[PartialChannels],
        mlp_ratio: float,
        act_layer: Act,
        drop_path: float,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.rep_mixer = RepMixer(channels, **dd)
        self.token_mixer = nn.Identity() if token_mixer is None else token_mixer
        self.channel_mixer = channel_mixer(channels, mlp_ratio, act_layer, bias=True, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.part = 0 if token_mixer is None else token_mixer.part

    def forward(self, x: Tensor) -> Tensor:
        x = self.rep_mixer(x)
        return x + self.drop_path(self.channel_mixer(self.token_mixer(x)))

    def forward_shared(self, x: Tensor, shared: List[Tensor]) -> Tuple[Tensor, List[Tensor]]:  # noqa: UP006
        """The block in a SharedStage.

        Args:
            x: (N, C, H, W).
            shared: what the blocks since the last one without a mixer have mixed, each (N, C / 4, H, W).

        Returns:
            The block's output, and `shared` for the next block.
        """
        x = self.rep_mixer(x)
        if self.part == 0:
            mixed = x + torch.cat(shared, dim=1)
            shared = []
        else:
            mixed = self.token_mixer(x)
            shared = shared + [mixed[:, : self.part]]  # noqa: RUF005 (TorchScript has no unpacking)
        return x + self.drop_path(self.channel_mixer(mixed)), shared


class SharedStage(nn.Module):
    """The last stage of the shared-channel kind; its blocks pass on what they mixed."""

    def __init__(self, downsample: Optional[nn.Module], blocks: Sequence[PartialBlock]) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = nn.Identity() if downsample is None else downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        shared: List[Tensor] = []  # noqa: UP006
        for block in self.blocks:
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x, shared = checkpoint(block.forward_shared, x, shared)
            else:
                x, shared = block.forward_shared(x, shared)  # type: ignore[operator]
        return x


class PartialDownsample(nn.Module):
    """y = ConvNorm 5x5 stride 2 with as many groups as divide both widths; y + drop_path(channel_mixer(y))."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mlp_ratio: float,
        act_layer: Act,
        drop_path: float,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.token_mixer = ConvNorm(
            in_channels, out_channels, 5, stride=2, padding=2, groups=gcd(in_channels, out_channels), bias=True, **dd
        )
        self.channel_mixer = channel_mixer(out_channels, mlp_ratio, act_layer, bias=True, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.token_mixer(x)
        return x + self.drop_path(self.channel_mixer(x))
