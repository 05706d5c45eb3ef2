"""Exact rewriting of the L series' blocks: the channels with attention and the others stay two maps."""

from collections.abc import Sequence
from typing import Optional, cast

import torch
from torch import Tensor, nn

from recnext.nn.models.blocks import Stage
from recnext.nn.models.partial_blocks import PartialBlock, PartialChannels, SharedStage

from .expanding import outputs_of


class PartedBlock(nn.Module):
    """A fused PartialBlock whose input and output are its two parts, (N, P, H, W) and (N, C - P, H, W).

    Args:
        block: with its convolutions folded.
        part: P, the channels with attention in this stage.
    """

    def __init__(self, block: PartialBlock, part: int) -> None:
        super().__init__()
        local = cast(nn.Conv2d, block.rep_mixer)
        expand, self.act, project = cast("tuple[nn.Conv2d, nn.Module, nn.Conv2d]", tuple(block.channel_mixer))
        channels = local.out_channels
        self.part = part
        parts = torch.arange(channels).split([part, channels - part])
        self.local = nn.ModuleList([outputs_of(local, chosen) for chosen in parts])
        self.attn: Optional[nn.Module] = block.token_mixer.attn if block.part else None  # type: ignore[assignment]
        self.expand = expand
        self.project = nn.ModuleList([outputs_of(project, chosen) for chosen in parts])

    def forward(self, first: Tensor, rest: Tensor, shared: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The block; `shared` is what the blocks before it have mixed, as in PartialBlock.forward_shared."""
        first, rest = self.local[0](first), self.local[1](rest)
        if self.attn is None:
            mixed = [first + shared[0], rest + torch.cat(shared[1:], dim=1)]
            shared = []
        else:
            mixed = [self.attn(first), rest]
            shared = [*shared, mixed[0]]
        hidden = self.act(self.expand(torch.cat(mixed, dim=1)))
        return first + self.project[0](hidden), rest + self.project[1](hidden), shared


class PartedBlocks(nn.Module):
    """The blocks of a stage on two maps, which are made once before them and put together once behind.

    In each block of the network as it is, the runtimes copy the map twice to part the channels and put them together.

    Args:
        blocks: of a Stage or a SharedStage of RecNextL, fused.

    Shape:
        (N, C, H, W) to (N, C, H, W).
    """

    def __init__(self, blocks: Sequence[PartialBlock]) -> None:
        super().__init__()
        self.part = max(block.part for block in blocks)
        self.blocks = nn.ModuleList([PartedBlock(block, self.part) for block in blocks])

    def forward(self, x: Tensor) -> Tensor:
        first, rest, shared = x[:, : self.part], x[:, self.part :], cast(list[Tensor], [])
        for block in self.blocks:
            first, rest, shared = block(first, rest, shared)
        return torch.cat([first, rest], dim=1)


def keep_parted(stage: nn.Module) -> nn.Module:
    """A stage of the L series with its blocks as PartedBlocks; any other module as it is."""
    if not isinstance(stage, (Stage, SharedStage)):
        return stage
    blocks = [block for block in stage.blocks if _can(block)]
    if not blocks or len(blocks) < len(stage.blocks):
        return stage
    return nn.Sequential(stage.downsample, PartedBlocks(cast(Sequence[PartialBlock], blocks)))


def _can(block: nn.Module) -> bool:
    return (
        isinstance(block, PartialBlock)
        and isinstance(block.rep_mixer, nn.Conv2d)
        and (isinstance(block.token_mixer, PartialChannels) or block.part == 0)
        and len(block.channel_mixer) == 3
        and all(isinstance(block.channel_mixer[i], nn.Conv2d) for i in (0, 2))
    )
