"""Putting a state dict into a network: folded or not, and what to say when the two do not fit."""

from typing import cast

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms, replace_batchnorm
from recnext.nn.mixers.conv_norm import ConvNorm
from recnext.nn.models.blocks import Classifier
from recnext.nn.models.partial_blocks import RepMixer

from .architecture import Architecture, read_architecture
from .reading import Weights

State = dict[str, Tensor]
_SHOWN = 3  # tensors listed in an error


def load_state(model: nn.Module, state: State, *, source: str) -> None:
    """Loads a state dict, folding the network first where the state dict is of a folded one, in place.

    Published fused files leave the norms of M blocks and of M/A downsamples; these are folded after loading.

    Args:
        model: unfused, of our families or any other.
        state: under our names; values are copied, to the network's dtype.
        source: for messages.

    Raises:
        RecNextError: they do not fit; names both sides.
    """
    found, own = read_architecture(state), read_architecture(model.state_dict())
    if found is not None and own is not None:
        _check(found, own, source)
        _fold_like(model, found)
    elif batchnorms(model) and not any(key.endswith("running_mean") for key in state):
        replace_batchnorm(model)
    fill(model, state, source=source, what="this network", hint="the name and the arguments of the network")
    if found is not None and found.fusion == "partly fused":
        _but_new_heads(model, keep=found.two_heads)


def fill(model: nn.Module, state: State, *, source: str, what: str, hint: str, optional: tuple[str, ...] = ()) -> None:
    """Copies a state dict into a module of the same tensors, in place and to its dtypes.

    Args:
        model: any.
        state: all its tensors, but for step counts, which older files lack.
        source: for messages, as the next two.
        what: the module is.
        hint: what to check where they do not fit.
        optional: parts of the names of tensors that may be absent.

    Raises:
        RecNextError: a tensor is absent, has no place, another shape, or no numbers of its kind.
    """
    expected = model.state_dict()
    free = ("num_batches_tracked", *optional)
    both = [(key, state[key], value) for key, value in expected.items() if key in state]
    listed = {
        "lacks": [key for key in expected if key not in state and not any(part in key for part in free)],
        "also has": [key for key in state if key not in expected],
        "has": [f"{k} {tuple(v.shape)} instead of {tuple(own.shape)}" for k, v, own in both if v.shape != own.shape],
        "holds": [f"{k} as {v.dtype}, no {own.dtype}" for k, v, own in both if not _converts(v, own)],
    }
    problems = [
        f"{verb} {', '.join(keys[:_SHOWN])}{f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''}"
        for verb, keys in listed.items()
        if keys
    ]
    if problems:
        raise RecNextError(f"{source} does not fit {what}: it {'; it '.join(problems)}; check {hint}")
    for key, value, _ in both:
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise RecNextError(f"{source} holds NaN or infinite numbers in {key}: take weights from before that")
    model.load_state_dict(state, strict=False)


def _converts(value: Tensor, own: Tensor) -> bool:
    """Whether one tensor may be copied into the other: dense, in memory, and of its kind of numbers."""
    plain = value.layout is torch.strided and not value.is_quantized and not value.is_meta
    return plain and not value.is_complex() and (value.is_floating_point() or not own.is_floating_point())


def adapted_images(weights: Weights, model: nn.Module, *, channels: int, in_chans: int) -> State:
    """The state dict with its first convolution for `in_chans` image channels.

    Raises:
        RecNextError: the channels differ and there is no known way from one to the other.
    """
    if in_chans == channels:
        return weights.state
    first = cast(str, model.pretrained_cfg.get("first_conv"))  # type: ignore[operator, union-attr]
    keys = [key for key in (f"{first}.weight", f"{first.removesuffix('.conv')}.weight") if key in weights.state]
    if channels != 3 or not keys:
        raise RecNextError(
            f"{weights.source} is for images of {channels} channels, not {in_chans}: give in_chans={channels}, or none"
        )
    return {**weights.state, keys[0]: adapt_input_conv(in_chans, weights.state[keys[0]])}


def _check(found: Architecture, own: Architecture, source: str) -> None:
    same = (found.series, found.widths, found.depths, found.share_channel)
    if same != (own.series, own.widths, own.depths, own.share_channel):
        fix = f"give the name {found.name}, or none" if found.name else "give the name and arguments it was made with"
        raise RecNextError(f"{source} holds {found}, not {own}: {fix}")
    if found.num_classes != own.num_classes:
        raise RecNextError(
            f"{source} has {found.num_classes} classes, the network {own.num_classes}: build it with "
            f"num_classes={found.num_classes}, or make new heads with reset_classifier after loading"
        )


def _fold_like(model: nn.Module, found: Architecture) -> None:
    """Folds a network as far as the state dict is folded."""
    if found.fusion == "fused":
        _but_new_heads(model, keep=found.two_heads)
    elif found.fusion == "partly fused":
        fold_as_published(model, heads=not found.two_heads)


def _but_new_heads(model: nn.Module, *, keep: bool) -> None:
    """Folds everything, or leaves the heads: new ones on a fused backbone are two."""
    head = model.head
    if keep:
        model.head = nn.Identity()
    replace_batchnorm(model)
    if keep:
        model.head = head


@torch.no_grad()
def fold_as_published(model: nn.Module, *, heads: bool = True) -> None:
    """Folds what the published fusion folds, in place: ConvNorms, rep mixers and heads, but not lone norms."""
    kinds = (ConvNorm, RepMixer, Classifier) if heads else (ConvNorm, RepMixer)
    for name, child in model.named_children():
        if isinstance(child, kinds):
            setattr(model, name, child.fuse())
        elif not isinstance(child, Classifier):
            fold_as_published(child, heads=heads)
