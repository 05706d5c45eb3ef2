"""Replaces the large depthwise convolutions of any network by RecConv (arXiv 2412.19628, section 3)."""

from copy import deepcopy
from typing import Any, Optional, Union, cast

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recnext.errors import RecNextError
from recnext.nn.mixers.recconv import MODES

from .forms import last_conv, recconv_like
from .least_squares import fit
from .report import ConvertedNetwork, KernelReport, Replacement, Skipped

INITIALIZATIONS = ("default", "least_squares")


def convert_large_kernels(
    model: nn.Module,
    *,
    min_kernel: int = 7,
    level: Union[str, int] = "match",
    kernel_size: int = 5,
    mode: str = "bilinear",
    initialize: str = "default",
    input_size: Optional[tuple[int, int, int]] = None,
    inplace: bool = False,
) -> ConvertedNetwork:
    """Replaces every large depthwise convolution by RecConv with at least the same receptive field.

    Taken are square kernels of odd size with stride 1 or 2 and bands of 1xk and kx1 with stride 1, all with the
    padding that keeps the size; dilated ones count with all that they span. Others are left alone and reported
    with the reason. Branches that merge for inference, as FastViT's, are best merged first: a RecConv cannot be
    merged. To load the weights of a converted network, convert a new one in the same way and load them into it.

    Args:
        model: any network of Conv2d layers, such as one of timm's.
        min_kernel: the least longer side of the kernels replaced, in pixels; more than `kernel_size`.
        level: "match" for the least level with kernel_size·2^level >= the kernel, or a number for all.
        kernel_size: k of RecConv, odd.
        mode: how RecConv resizes its levels, "bilinear" or "nearest".
        initialize: "default" for PyTorch's random weights, or "least_squares" to fit each RecConv to the
            convolution that it replaces, with the error in the report; kernels that are not smooth fit badly.
        input_size: (C, H, W) for which MACs are counted; by default timm's for the network, if it has one.
        inplace: changes `model` itself instead of a copy.

    Returns:
        The converted network and the report, as the pair (model, report).

    Raises:
        RecNextError: an argument out of range; or, when fitting, weights on the meta device.
    """
    _check(min_kernel, level=level, kernel_size=kernel_size, mode=mode, initialize=initialize)
    model = model if inplace else deepcopy(model)
    chosen, skipped = _choose(model, min_kernel)
    input_size = input_size or _default_size(model)
    names = [name for name, _ in chosen]
    parameters = _count(model)
    macs, macs_of = _macs(model, names, input_size)

    fitted = initialize == "least_squares"
    levels = {conv: _level(conv, kernel_size) if isinstance(level, str) else level for _, conv in chosen}
    made = {conv: _replacement(conv, kernel_size, levels[conv], mode=mode, fitted=fitted) for conv in levels}
    for name, conv in chosen:
        _set(model, name, made[conv][0])
    macs_after, macs_of_new = _macs(model, names, input_size)
    report = KernelReport(
        replaced=tuple(
            _compare(name, conv, made[conv], kernel_size, levels[conv], (macs_of.get(name), macs_of_new.get(name)))
            for name, conv in chosen
        ),
        skipped=tuple(skipped),
        parameters=(parameters, _count(model)),
        macs=None if macs is None or macs_after is None else (macs, macs_after),
        input_size=input_size,
    )
    return ConvertedNetwork(model, report)


def _compare(
    name: str,
    conv: nn.Conv2d,
    made: tuple[nn.Module, Optional[float]],
    kernel_size: int,
    level: int,
    macs: tuple[Optional[int], Optional[int]],
) -> Replacement:
    new, error = made
    before, after = macs
    return Replacement(
        name=name,
        channels=conv.out_channels,
        kernel=_span(conv),
        stride=conv.stride[0],
        kernel_size=kernel_size,
        level=level,
        parameters=(_count(conv), _count(new)),
        macs=None if before is None or after is None else (before, after),
        error=error,
    )


def _check(min_kernel: int, *, level: Union[str, int], kernel_size: int, mode: str, initialize: str) -> None:
    name = "convert_large_kernels"
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise RecNextError(f"{name}: kernel_size={kernel_size} must be odd and 3 or more, such as 3, 5 or 7")
    if min_kernel <= kernel_size:
        raise RecNextError(
            f"{name}: min_kernel={min_kernel} must exceed kernel_size={kernel_size}, that of RecConv: take "
            f"{kernel_size + 2} or more"
        )
    if level != "match" and (not isinstance(level, int) or isinstance(level, bool) or level < 1):
        raise RecNextError(f"{name}: level={level!r} must be 'match' or a number from 1")
    if mode not in MODES:
        raise RecNextError(f"{name}: mode={mode!r} must be one of {', '.join(MODES)}")
    if initialize not in INITIALIZATIONS:
        raise RecNextError(f"{name}: initialize={initialize!r} must be one of {', '.join(INITIALIZATIONS)}")


def _span(conv: nn.Conv2d) -> tuple[int, int]:
    """Height and width in pixels that the kernel covers, with its dilation."""
    height, width = (d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    return height, width


def _level(conv: nn.Conv2d, kernel_size: int) -> int:
    """The least level with kernel_size·2^level >= the longer side of the kernel."""
    level = 1
    while kernel_size * 2**level < max(_span(conv)):
        level += 1
    return level


def _choose(model: nn.Module, min_kernel: int) -> tuple[list[tuple[str, nn.Conv2d]], list[Skipped]]:
    """The convolutions to replace and the large ones to leave, by name; a shared one appears under every name."""
    chosen, skipped = [], []
    for name, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, nn.Conv2d) or max(_span(module)) < min_kernel:
            continue
        reason = "is the whole network" if name == "" else _objection(module)
        if reason is None:
            chosen.append((name, module))
        else:
            skipped.append(Skipped(name, reason))
    return chosen, skipped


def _objection(conv: nn.Conv2d) -> Optional[str]:
    """Why a convolution cannot be replaced, or None."""
    span, stride = _span(conv), cast(tuple[int, int], conv.stride)
    size, steps = "x".join(str(n) for n in span), "x".join(str(n) for n in stride)
    if type(conv) is not nn.Conv2d and not (type(conv) is Conv2dSame and stride == (1, 1)):
        return f"is a {type(conv).__name__} of stride {steps}, whose padding or weights are its own"
    if conv.groups != conv.in_channels or conv.groups == 1:
        return f"mixes channels (groups {conv.groups} of {conv.in_channels} channels)"
    if span[0] % 2 == 0 or span[1] % 2 == 0:
        return f"kernel {size} is even"
    if span[0] != span[1] and 1 not in span:
        return f"kernel {size} is neither square nor a band"
    if stride not in ((1, 1), (2, 2)) or (stride != (1, 1) and 1 in span):
        return f"stride {steps} with kernel {size}"
    if stride == (1, 1) and conv.out_channels != conv.in_channels:
        return f"widens {conv.in_channels} channels to {conv.out_channels} at stride 1"
    if conv.padding_mode != "zeros":
        return f"padding mode {conv.padding_mode}"
    keeps = (span[0] // 2, span[1] // 2)
    if type(conv) is nn.Conv2d and conv.padding not in ("same", keeps):
        return f"padding {conv.padding} with kernel {size} does not keep the size"
    return None


def _replacement(
    conv: nn.Conv2d, kernel_size: int, level: int, *, mode: str, fitted: bool
) -> tuple[nn.Module, Optional[float]]:
    """RecConv for a convolution, and the error of its fit."""
    new = recconv_like(conv, kernel_size=kernel_size, level=level, mode=mode, bias=conv.bias is not None)
    error = fit(new, conv, kernel_size=kernel_size, level=level, mode=mode) if fitted else None
    if conv.bias is not None:
        with torch.no_grad():
            for name, parameter in new.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
            cast(torch.Tensor, last_conv(new).bias).copy_(conv.bias)
    new.requires_grad_(conv.weight.requires_grad)
    return new.train(conv.training), error


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _default_size(model: nn.Module) -> Optional[tuple[int, int, int]]:
    """The input size that timm states for the network."""
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    return None if size is None else (getattr(model, "in_chans", size[0]), size[1], size[2])


def _macs(
    model: nn.Module, names: list[str], input_size: Optional[tuple[int, int, int]]
) -> tuple[Optional[int], dict[str, int]]:
    """MACs of the network for one input, and of the modules named, counted without computing."""
    if input_size is None:
        return None, {}
    shadow = deepcopy(model).to("meta").eval()
    x = torch.empty((1, *input_size), device="meta", dtype=next(shadow.parameters()).dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(x)
    counts = {name.partition(".")[2]: sum(kinds.values()) // 2 for name, kinds in counter.get_flop_counts().items()}
    known = {module: name for name, module in shadow.named_modules()}  # a shared one is counted under its first name
    return counter.get_total_flops() // 2, {name: counts.get(known[shadow.get_submodule(name)], 0) for name in names}
