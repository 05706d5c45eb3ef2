"""RecAttn2d: RecConv's recursion with linear attention on the coarse level."""

from typing import Any, Optional

import torch.nn.functional as F
from torch import Tensor, nn

from .conv_norm import ConvNorm
from .linear_attention import LinearAttention
from .recconv import MODES
from .recursion import check_choice, check_kernel, depthwise


class RecAttn2d(nn.Module):
    """Recursive attention of the A and L series: ``conv(x + resize(attention(down(x))))``.

    `down` is a stride-2 depthwise convolution with norm followed by LinearAttention, `conv` a depthwise
    convolution with norm.

    Args:
        in_channels: channels C of input and output.
        num_heads: heads of the attention.
        kernel_size: of both depthwise convolutions, odd.
        mode: how the attended map is resized, "nearest" as published, or "bilinear".
        kernel: feature map of the attention (see LinearAttention).
        bias: gives the convolutions a bias, as in the L series.
        kv_first: see LinearAttention.
        norm: a BatchNorm behind each convolution.
        attention: what attends on the coarse map, in place of LinearAttention and its options.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, H, W) to (N, C, H, W), any H and W.

    Raises:
        RecNextError: an even kernel, an unknown mode, or what LinearAttention refuses.
    """

    def __init__(
        self,
        in_channels: int,
        num_heads: int = 1,
        kernel_size: int = 5,
        mode: str = "nearest",
        *,
        kernel: str = "elu",
        bias: bool = False,
        kv_first: bool = True,
        norm: bool = True,
        attention: Optional[nn.Module] = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_kernel("RecAttn2d", kernel_size)
        check_choice("RecAttn2d", option="mode", value=mode, choices=MODES)
        self.mode = mode
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        conv: Any = ConvNorm if norm else nn.Conv2d
        down = depthwise(in_channels, kernel_size, stride=2, conv=conv, **options)
        if attention is None:
            attention = LinearAttention(in_channels, num_heads, kernel=kernel, kv_first=kv_first, norm=norm, **options)
        self.down = nn.Sequential(down, attention)
        self.conv = depthwise(in_channels, kernel_size, conv=conv, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + F.interpolate(self.down(x), size=x.shape[-2:], mode=self.mode))

    def extra_repr(self) -> str:
        return f"mode={self.mode}"
