"""Feature pyramid on any timm backbone."""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from recnext.errors import RecNextError

FINEST, COARSEST = 4, 64
"""Strides of the first and the last level."""


class PyramidBackbone(nn.Module):
    """A backbone of timm's ``features_only`` and a pyramid on its maps: strides 4, 8, 16, 32, 64 for all.

    The M and A series give strides 4 to 32; stride 64 is the coarsest map taken at every second place. The L series
    gives 8 to 64: there stride 4 is made from the pyramid's finest map by a transposed convolution, so that anchors,
    pooling and recipes are the same for all series and small objects are not lost.

    Args:
        body: returns a list of maps; has timm's `feature_info`.
        channels: of every level.

    Shape:
        (N, 3, H, W) to maps "0", "1", "2", "3", "pool", each (N, channels, H_i, W_i).
    """

    def __init__(self, body: nn.Module, *, channels: int = 256) -> None:
        super().__init__()
        reductions, widths = _levels_of(body)
        self.taken = [i for i, reduction in enumerate(reductions) if FINEST <= reduction <= COARSEST]
        strides = [reductions[i] for i in self.taken]
        if not strides or strides != [strides[0] * 2**i for i in range(len(strides))] or COARSEST // strides[-1] > 2:
            raise RecNextError(
                f"a pyramid needs maps of strides {FINEST} to {COARSEST // 2}, each half the one before: "
                f"the backbone gives {', '.join(map(str, reductions))}"
            )
        self.body = body
        self.out_channels = channels
        self.fpn = FeaturePyramidNetwork(
            [widths[i] for i in self.taken],
            channels,
            extra_blocks=LastLevelMaxPool() if strides[-1] < COARSEST else None,
        )
        finer = [stride for stride in (4, 8, 16) if FINEST <= stride < strides[0]]
        self.finer = nn.ModuleList(nn.ConvTranspose2d(channels, channels, 2, stride=2) for _ in finer)
        self.strides = (*finer, *strides, COARSEST) if strides[-1] < COARSEST else (*finer, *strides)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body(x)
        levels = list(self.fpn(OrderedDict((str(i), maps[i]) for i in self.taken)).values())
        for transposed in self.finer:
            levels.insert(0, F.gelu(transposed(levels[0])))
        names = [*map(str, range(len(levels) - 1)), "pool"]
        return OrderedDict(zip(names, levels, strict=True))


def _levels_of(body: nn.Module) -> tuple[list[int], list[int]]:
    information: Any = getattr(body, "feature_info", None)
    if information is None:
        raise RecNextError(f"{type(body).__name__} is no features_only backbone of timm: it has no feature_info")
    return list(information.reduction()), list(information.channels())
