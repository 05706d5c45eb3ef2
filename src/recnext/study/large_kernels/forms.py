"""The forms of RecConv that stand in for a convolution: for maps, for bands of 1xk and kx1, and with stride 2."""

from typing import Any

from torch import nn

from recnext.nn.mixers import RecConv2d
from recnext.nn.mixers.recursion import PerLevel, Recursion


class BandRecConv2d(Recursion):
    """RecConv along one axis of a map: the recursion of RecConv2d with 1xk or kx1 kernels.

    Children `down` and `convs` as RecConv2d; (level + 2) k C parameters without bias.

    Args:
        in_channels: channels C of input and output.
        kernel_size: (1, k) or (k, 1), k odd.
        bias: adds a bias to every convolution.
        level: number of times the axis is halved.
        mode: how the axis is lengthened, "bilinear" (align_corners False) or "nearest".
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, H, W) to (N, C, H, W), any H and W.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: tuple[int, int],
        *,
        bias: bool,
        level: int,
        mode: str,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(kernel_size=max(kernel_size), level=level)
        self.mode = mode
        stride = (1 if kernel_size[0] == 1 else 2, 1 if kernel_size[1] == 1 else 2)
        options: dict[str, Any] = {
            "padding": (kernel_size[0] // 2, kernel_size[1] // 2),
            "groups": in_channels,
            "bias": bias,
            "device": device,
            "dtype": dtype,
        }
        self.down = nn.Conv2d(in_channels, in_channels, kernel_size, stride=stride, **options)
        self.convs = PerLevel(nn.Conv2d(in_channels, in_channels, kernel_size, **options) for _ in range(level + 1))


def recconv_like(conv: nn.Conv2d, *, kernel_size: int, level: int, mode: str, bias: bool) -> nn.Module:
    """The RecConv of `level` levels that takes and gives maps as a depthwise convolution does.

    - stride 1: RecConv2d, or BandRecConv2d where the kernel is one pixel high or wide;
    - stride 2: RecConv without its finest level, that is a stride-2 convolution (which may widen the channels)
      and RecConv of one level less on its result; for one level, a convolution.

    Args:
        conv: what it stands in for; gives channels, stride, device and dtype.
        kernel_size: k of RecConv.
        level: 1 or more.
        mode: how levels are resized, "bilinear" or "nearest".
        bias: adds a bias to every convolution.

    Returns:
        A module whose last convolution, `last_conv(module)`, holds the bias of its output.
    """
    dd: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    channels, out_channels = conv.in_channels, conv.out_channels
    if 1 in conv.kernel_size:
        band = (1 if conv.kernel_size[0] == 1 else kernel_size, 1 if conv.kernel_size[1] == 1 else kernel_size)
        return BandRecConv2d(channels, band, bias=bias, level=level, mode=mode, **dd)
    if conv.stride == (1, 1):
        return RecConv2d(channels, kernel_size, bias, level, mode, **dd)
    padding = kernel_size // 2
    down = nn.Conv2d(channels, out_channels, kernel_size, 2, padding, groups=channels, bias=bias, **dd)
    if level == 1:
        rest: nn.Module = nn.Conv2d(
            out_channels, out_channels, kernel_size, padding=padding, groups=out_channels, bias=bias, **dd
        )
    else:
        rest = RecConv2d(out_channels, kernel_size, bias, level - 1, mode, **dd)
    return nn.Sequential(down, rest)


def last_conv(module: nn.Module) -> nn.Conv2d:
    """The convolution that gives the output of a module made by `recconv_like`."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1]
