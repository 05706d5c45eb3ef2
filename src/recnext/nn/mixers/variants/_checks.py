"""What a variant can take: one line for the user instead of a size mismatch deep inside a convolution."""

import torch
from torch import Tensor

from recnext.errors import RecNextError


def check_options(name: str, *, kernel_size: int, level: int, lowest_level: int = 0) -> None:
    """Raises RecNextError unless the kernel is odd and the level is not below `lowest_level`."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise RecNextError(f"{name}: kernel_size must be odd, such as 3, 5 or 7, not {kernel_size}")
    if level < lowest_level:
        raise RecNextError(f"{name}: level must be {lowest_level} or more, not {level}")


def check_choice(name: str, *, option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises RecNextError unless the value of the option is among the choices."""
    if value not in choices:
        raise RecNextError(f"{name}: {option} must be one of {', '.join(choices)}, not {value!r}")


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
        sizes = f"a multiple of {step}, such as {_fit(height, step)}x{_fit(width, step)}"
        least = f"{step} or more"
        sides = "that are multiples of 64, such as 256, 320 or 384" if multiple else "of 64 or more"
        raise RecNextError(
            f"{name} with {level} levels takes maps with sides of {sizes if multiple else least}, "
            f"not {height}x{width} (in an M network: images with sides {sides})"
        )


def _fit(size: int, step: int) -> int:
    return max(round(size / step), 1) * step
