"""RecConv for sequences and volumes: the recursion of RecConv2d in one and three dimensions, and causal in one.

The laws carry over from two dimensions to d: a receptive field of k·2^level along every axis, (level + 2) k^d c
parameters, and at most (2^d + 1) / (2^d - 1) times the cost of one depthwise convolution: 3 for sequences,
5/3 for maps, 9/7 for volumes.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError


def check_options(name: str, *, kernel_size: int, level: int) -> None:
    """Raises RecNextError unless the kernel is odd and the level is not negative."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise RecNextError(f"{name}: kernel_size={kernel_size} must be odd and positive, such as 3, 5 or 7")
    if level < 0:
        raise RecNextError(f"{name}: level={level} must be 0 or more")


class _RecConvNd(nn.Module):
    """The recursion itself; the subclasses name the convolution and how maps are resized."""

    def __init__(
        self,
        conv: type[nn.Module],
        modes: tuple[str, ...],
        in_channels: int,
        kernel_size: int,
        bias: bool,
        level: int,
        mode: str,
        dd: dict[str, Any],
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_options(name, kernel_size=kernel_size, level=level)
        if mode not in modes:
            raise RecNextError(f"{name}: mode={mode!r} must be one of {', '.join(modes)}")
        self.level = level
        self.mode = mode
        options = {"padding": kernel_size // 2, "groups": in_channels, "bias": bias, **dd}
        self.down = conv(in_channels, in_channels, kernel_size, stride=2, **options)
        self.convs = nn.ModuleList(
            [conv(in_channels, in_channels, kernel_size, **options) for _ in range(level + 1)]
        )  # coarsest level first

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for _ in range(self.level):
            features.append(self.down(features[-1]))
        y = features.pop()
        for i, conv in enumerate(self.convs):
            y = conv(y)
            if i < self.level:
                above = features.pop()
                y = above + F.interpolate(y, size=above.shape[2:], mode=self.mode)
        return y

    def extra_repr(self) -> str:
        return f"level={self.level}, mode={self.mode}"


class RecConv1d(_RecConvNd):
    """Recursive depthwise convolution of sequences (RecConv, arXiv 2412.19628 section 3, in one dimension).

    Children `down`, one stride-2 convolution that all levels share, and `convs`, coarsest level first. Without
    bias it has (level + 2) k c parameters. float16 can overflow between the levels; bfloat16 does not.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd.
        bias: adds a bias to every convolution.
        level: number of times the sequence is halved; 0 is a plain depthwise convolution.
        mode: how a level is lengthened, "linear" (align_corners False) or "nearest".
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, T) to (N, C, T), any T.

    Raises:
        RecNextError: an even kernel, a negative level or an unknown mode.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        mode: str = "linear",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        super().__init__(nn.Conv1d, ("linear", "nearest"), in_channels, kernel_size, bias, level, mode, dd)


class RecConv3d(_RecConvNd):
    """Recursive depthwise convolution of volumes (RecConv, arXiv 2412.19628 section 3, in three dimensions).

    Children `down`, one stride-2 convolution that all levels share, and `convs`, coarsest level first. Without
    bias it has (level + 2) k³ c parameters. float16 can overflow between the levels; bfloat16 does not.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd, along all three axes.
        bias: adds a bias to every convolution.
        level: number of times the volume is halved; 0 is a plain depthwise convolution.
        mode: how a level is enlarged, "trilinear" (align_corners False) or "nearest".
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, D, H, W) to (N, C, D, H, W), any D, H and W.

    Raises:
        RecNextError: an even kernel, a negative level or an unknown mode.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 3,
        bias: bool = False,
        level: int = 2,
        mode: str = "trilinear",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        dd = {"device": device, "dtype": dtype}
        super().__init__(nn.Conv3d, ("trilinear", "nearest"), in_channels, kernel_size, bias, level, mode, dd)


class CausalRecConv1d(nn.Module):
    """RecConv1d whose output at t depends on the input up to t alone.

    Every convolution sees its last k samples. Level i has a sample at each multiple of 2^i, made from the input up
    to there, and holds it until the next: interpolation would look ahead. Children and parameters as RecConv1d.

    Args:
        in_channels: channels C of input and output.
        kernel_size: k, odd as in RecConv1d.
        bias: adds a bias to every convolution.
        level: number of times the sequence is halved; 0 is a plain causal depthwise convolution.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, T) to (N, C, T), any T.

    Raises:
        RecNextError: an even kernel or a negative level.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int = 5,
        bias: bool = False,
        level: int = 2,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_options("CausalRecConv1d", kernel_size=kernel_size, level=level)
        self.level = level
        self.past = kernel_size - 1
        options: dict[str, Any] = {"groups": in_channels, "bias": bias, "device": device, "dtype": dtype}
        self.down = nn.Conv1d(in_channels, in_channels, kernel_size, stride=2, **options)
        self.convs = nn.ModuleList(
            [nn.Conv1d(in_channels, in_channels, kernel_size, **options) for _ in range(level + 1)]
        )  # coarsest level first

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for _ in range(self.level):
            features.append(self.down(F.pad(features[-1], (self.past, 0))))
        y = features.pop()
        for i, conv in enumerate(self.convs):
            y = conv(F.pad(y, (self.past, 0)))
            if i < self.level:
                above = features.pop()
                # one sample too many: a cut that even and odd lengths share keeps exported programs general
                y = above + F.pad(y, (0, 1)).repeat_interleave(2, -1)[:, :, : above.shape[2]]
        return y

    def extra_repr(self) -> str:
        return f"level={self.level}"
