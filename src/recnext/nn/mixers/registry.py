"""Token mixers of the M networks by name: what the name says, how it is read, and what it builds."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any, Union

from torch import nn

from recnext.errors import RecNextError

from .recconv import MODES, RecConv2d
from .recursion import depthwise
from .variants import GroupRecConv2d, RecurrentRecConv2d, SplitRecConv2d, TransposedRecConv2d, UnpoolRecConv2d

TokenMixer = Union[str, Callable[[int, int], nn.Module]]

DEFAULT_TOKEN_MIXER = "rec_5x5_bilinear"

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}

# What may follow "rec_KxK_" -> what builds it from (channels, kernel_size=, level=, device=, dtype=).
_DESIGNS: dict[str, Callable[..., nn.Module]] = {
    "bilinear": partial(RecConv2d, mode="bilinear"),
    "nearest": partial(RecConv2d, mode="nearest"),
    "bilinear_recurrent": partial(RecurrentRecConv2d, mode="bilinear"),
    "nearest_recurrent": partial(RecurrentRecConv2d, mode="nearest"),
    "unpool": UnpoolRecConv2d,
    "group": GroupRecConv2d,
    "split": SplitRecConv2d,
    "split_bilinear": partial(SplitRecConv2d, upsample="bilinear"),
    "split_nearest": partial(SplitRecConv2d, upsample="nearest"),
    **{
        "_".join(["conv_transpose", *(["hadamard"] if hadamard else []), *([name] if name else [])]): partial(
            TransposedRecConv2d, aggregation="hadamard" if hadamard else "add", activation=activation
        )
        for hadamard in (False, True)
        for name, activation in {"": None, **_ACTIVATIONS}.items()
    },
}

_NAME = re.compile(r"(?P<recursive>rec_)?(?P<kernel>\d+)x(?P<other>\d+)(?:_(?P<design>\w+))?")


def token_mixer_names(*, kernels: tuple[int, ...] = (3, 5, 7, 11)) -> list[str]:
    """Names that `create_token_mixer` takes with these kernels; any other odd kernel works the same way."""
    plain = [f"{k}x{k}" for k in kernels]
    return plain + [f"rec_{k}x{k}_{design}" for design in _DESIGNS for k in kernels]


def create_token_mixer(
    token_mixer: TokenMixer,
    channels: int,
    stage: int,
    *,
    recompute: bool = False,
    device: Any = None,
    dtype: Any = None,
) -> nn.Module:
    """Builds the token mixer of one block of an M network.

    Names (K is any odd kernel size):

    ===============================  ================================================================
    ``KxK``                          plain depthwise convolution, with bias
    ``rec_KxK_bilinear``             RecConv2d; ``rec_5x5_bilinear`` is the published networks' mixer
    ``rec_KxK_nearest``              RecConv2d with nearest interpolation
    ``rec_KxK_nearest_recurrent``    recurrent aggregation (also ``bilinear_recurrent``)
    ``rec_KxK_unpool``               max pooling and max unpooling
    ``rec_KxK_conv_transpose``       shared transposed convolution; a further ``_hadamard`` multiplies instead
                                     of adding; a further ``_gelu``, ``_relu``, ``_silu``, ``_sigmoid`` or
                                     ``_tanh`` is applied after each
    ``rec_KxK_group``                variant A: group convolutions
    ``rec_KxK_split``                variant B: split and concatenate; ``_bilinear`` or ``_nearest`` resizes
    ===============================  ================================================================

    Args:
        token_mixer: a name, or a callable that gets (channels, stage) and returns the module, which maps
            (N, channels, H, W) to the same shape.
        channels: channels of the stage.
        stage: index of the stage, 0 to 3; the recursion has 4 - stage levels.
        recompute: for RecConv2d made by name, which alone can: see there.
        device: where the parameters go; None for the default.
        dtype: of the parameters; None for the default.

    Raises:
        RecNextError: the name is unknown, the mixer cannot take these channels, or the callable returned
            something else than a module.
    """
    if callable(token_mixer):
        module = token_mixer(channels, stage)
        if not isinstance(module, nn.Module):
            raise RecNextError(
                f"token_mixer returned {type(module).__name__} for {channels} channels at stage {stage}: "
                f"it must return a torch.nn.Module"
            )
        return module.to(device=device, dtype=dtype)
    recursive, kernel_size, design = _parse(token_mixer)
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    if not recursive:
        return depthwise(channels, kernel_size, **options)
    if design in MODES:
        options["recompute"] = recompute
    return _DESIGNS[design](channels, kernel_size, level=4 - stage, **options)


def _parse(name: str) -> tuple[bool, int, str]:
    """("rec_" or not, kernel size, design) of a name."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise _unknown(name)
    recursive, design = match["recursive"] is not None, match["design"] or ""
    known = design in _DESIGNS if recursive else design == ""
    if not known:
        raise _unknown(name)
    kernel_size = int(match["kernel"])
    if kernel_size != int(match["other"]) or kernel_size % 2 == 0:
        raise RecNextError(f"token mixer {name!r}: the kernel must be square and odd, such as 5x5 or 7x7")
    return recursive, kernel_size, design


def _unknown(name: str) -> RecNextError:
    names = token_mixer_names()
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names)}"
    return RecNextError(f"unknown token mixer {name!r}: {hint}")
