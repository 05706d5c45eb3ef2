"""The recursion of RecConv (arXiv 2412.19628, section 3): down the levels, and up again from the coarsest map."""

from typing import Any, List  # noqa: UP035 (TorchScript reads List)

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError


class PerLevel(nn.ModuleList):
    """One module for each level, called with a map and the index of the level's module."""

    def forward(self, x: Tensor, index: int) -> Tensor:
        for i, module in enumerate(self):  # TorchScript indexes module lists by literals only
            if i == index:
                return module(x)
        return x


class Recursion(nn.Module):
    """The loop that every RecConv runs, around three steps that its designs give.

    The default steps are RecConv's own, with the children `down` (shared by all levels) and `convs` (PerLevel,
    coarsest first). Maps that the way up needs wait on a stack between `lower` and `rise`.

    Args:
        kernel_size: k, odd.
        level: number of times the map is halved.
        lowest_level: the smallest level that the design takes.

    Raises:
        RecNextError: the kernel is even or the level too low.
    """

    mode: str  # how the default `rise` resizes

    def __init__(self, *, kernel_size: int, level: int, lowest_level: int = 0) -> None:
        super().__init__()
        name = type(self).__name__
        check_kernel(name, kernel_size)
        if level < lowest_level:
            raise RecNextError(f"{name}: level={level} must be {lowest_level} or more")
        self.level = level

    def lower(self, x: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        """The next coarser map; step i of `level`."""
        waiting.append(x)
        return self.down(x)  # type: ignore[operator]

    def mix(self, y: Tensor, i: int) -> Tensor:
        """What a level does to its map; i is 0 at the coarsest."""
        return self.convs(y, i)  # type: ignore[operator]

    def rise(self, y: Tensor, waiting: List[Tensor], i: int) -> Tensor:  # noqa: UP006
        """The next finer map; step i of `level`."""
        above = waiting.pop()
        return above + F.interpolate(y, size=above.shape[2:], mode=self.mode)

    def recurse(self, x: Tensor) -> Tensor:
        """Maps (N, C, ...) to the same shape, by the modules' own convolutions."""
        waiting: List[Tensor] = []  # noqa: UP006
        for i in range(self.level):
            x = self.lower(x, waiting, i)
        for i in range(self.level):
            x = self.rise(self.mix(x, i), waiting, i)
        return self.mix(x, self.level)

    def forward(self, x: Tensor) -> Tensor:
        return self.recurse(x)

    def extra_repr(self) -> str:
        return f"level={self.level}, mode={self.mode}" if hasattr(self, "mode") else f"level={self.level}"


class RecConvNd(Recursion):
    """RecConv by a given kind of convolution: `down`, `convs` and a mode of resizing.

    Args:
        conv: nn.Conv1d, nn.Conv2d or nn.Conv3d.
        modes: the modes that fit it.
        in_channels: channels C of input and output.
        kernel_size: k, odd.
        bias: adds a bias to every convolution.
        level: number of times the map is halved.
        mode: one of `modes`.
        dd: device and dtype of the weights.
    """

    def __init__(
        self,
        conv: type[nn.Module],
        modes: tuple[str, ...],
        in_channels: int,
        kernel_size: int,
        *,
        bias: bool,
        level: int,
        mode: str,
        dd: dict[str, Any],
    ) -> None:
        super().__init__(kernel_size=kernel_size, level=level)
        check_choice(type(self).__name__, option="mode", value=mode, choices=modes)
        self.mode = mode
        self.down = depthwise(in_channels, kernel_size, stride=2, conv=conv, bias=bias, **dd)
        self.convs = PerLevel(depthwise(in_channels, kernel_size, conv=conv, bias=bias, **dd) for _ in range(level + 1))


def depthwise(
    channels: int, kernel_size: int, *, stride: int = 1, conv: type[nn.Module] = nn.Conv2d, **options: Any
) -> nn.Module:
    """A depthwise convolution that keeps the size, rounded up after a stride; `options` are the convolution's."""
    return conv(channels, channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=channels, **options)


def check_kernel(name: str, kernel_size: int) -> None:
    """Raises RecNextError unless the kernel is odd."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise RecNextError(f"{name}: kernel_size={kernel_size} must be odd and positive, such as 3, 5 or 7")


def check_choice(name: str, *, option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises RecNextError unless the value of the option is among the choices."""
    if value not in choices:
        raise RecNextError(f"{name}: {option}={value!r} must be one of {', '.join(choices)}")


def check_map(name: str, x: Tensor, *, level: int, multiple: bool) -> None:
    """Raises RecNextError if the maps of `x` do not survive `level` halvings.

    An ordinary call is checked. fx, torch.jit.trace, torch.compile and torch.export follow sizes that need
    not be numbers, so there the operators themselves decide.

    Args:
        name: what to call the mixer in the message.
        x: (N, C, H, W).
        level: number of halvings.
        multiple: True if H and W must be multiples of 2**level, False if 2**level is only the least size.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or not isinstance(x, Tensor):
        return
    step = 2**level
    height, width = x.shape[-2], x.shape[-1]
    if min(height, width) < step or (multiple and (height % step or width % step)):
        near = [max(round(size / step), 1) * step for size in (height, width)]
        sizes = f"a multiple of {step}, such as {near[0]}x{near[1]}" if multiple else f"{step} or more"
        sides = "that are multiples of 64, such as 256, 320 or 384" if multiple else "of 64 or more"
        raise RecNextError(
            f"{name} with {level} levels takes maps with sides of {sizes}, "
            f"not {height}x{width} (in an M network: images with sides {sides})"
        )
