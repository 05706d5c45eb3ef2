"""How far one token mixer of every stage reaches, by theory: the span of its largest kernel, in pixels of the image."""

from dataclasses import dataclass
from typing import Any, Optional

from torch import nn

from recnext.nn.mixers import LinearAttention, RecAttn2d

from .receptive_field import nominal_receptive_field


@dataclass(frozen=True, kw_only=True)
class Span:
    """The widest token mixer among the layers of one stride.

    Attributes:
        stride: pixels of the image per position of the map.
        kernel: positions of the map that the mixer spans, k·2^l for RecConv; None if it attends to all of them.
        level: number of halvings, 0 for a plain convolution.
    """

    stride: int
    kernel: Optional[int]
    level: int = 0

    @property
    def pixels(self) -> Optional[int]:
        """Of the image; None for all of them."""
        return None if self.kernel is None else self.kernel * self.stride


def mixer_spans(model: nn.Module) -> list[Span]:
    """The span of the widest token mixer at every stride of a timm network, fine to coarse.

    Counted are RecConv and its variants (k·2^l), attention (the whole map), and of convolutions with stride 1 the
    depthwise ones, or, in stages without any, all with kernels above 1x1. Attention within windows spans one window.

    Args:
        model: with timm's ``feature_info``; empty without.
    """
    widest: dict[int, Span] = {}
    for info in _feature_info(model):
        stride = int(info["reduction"])
        name = str(info["module"])
        if name not in dict(model.named_modules()):
            continue
        found = _widest(model.get_submodule(name), stride)
        if found is not None:
            widest[stride] = max(widest.get(stride, found), found, key=lambda span: span.kernel or float("inf"))
    return [widest[stride] for stride in sorted(widest)]


def _feature_info(model: nn.Module) -> list[dict[str, Any]]:
    info = getattr(model, "feature_info", [])
    return list(getattr(info, "info", info))


def _widest(stage: nn.Module, stride: int) -> Optional[Span]:
    depthwise: list[Span] = []
    dense: list[Span] = []
    pending = [stage]
    while pending:
        module = pending.pop()
        level = getattr(module, "level", None)
        if isinstance(module, (RecAttn2d, LinearAttention)) or "Attention" in type(module).__name__:
            window = getattr(module, "window_size", None)
            return Span(stride=stride, kernel=max(window) if isinstance(window, tuple) else window)
        if isinstance(level, int):  # RecConv and its variants
            kernel = max(part.kernel_size[0] for part in module.modules() if isinstance(part, nn.Conv2d))
            reach = nominal_receptive_field(kernel, level=level)
            depthwise.append(Span(stride=stride, kernel=reach, level=level))
        elif isinstance(module, nn.Conv2d) and module.stride[0] == 1 and module.kernel_size[0] > 1:
            reach = (module.kernel_size[0] - 1) * module.dilation[0] + 1
            kind = depthwise if module.groups == module.in_channels else dense
            kind.append(Span(stride=stride, kernel=reach))
        else:
            pending += module.children()
    spans = depthwise or dense
    return max(spans, key=lambda span: span.kernel or 0) if spans else None
