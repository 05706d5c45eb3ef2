"""Where a network looks in one image, and what each level of its recursion adds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn

from recnext.data import normalise
from recnext.data.images import Unreadable
from recnext.errors import RecNextError
from recnext.tasks.classification.activation_maps import class_activation_maps, default_stage
from recnext.tasks.classification.data import preparation_of
from recnext.tasks.classification.predict import ClassScore, classify

from .images import open_named, resize_network
from .levels import Decomposition, decompose_network, radial_power, recursive_mixers


@dataclass(frozen=True, kw_only=True)
class Levels:
    """One recursive mixer as a sum over its levels, and what levels add in all of them.

    Attributes:
        block: name of that mixer.
        parts: its terms.
        channel: to draw.
        shares: by level, for every mixer of the network in order.
        spectra: frequencies (cycles per position) and power of every term, finest level first, then the output.
    """

    block: str
    parts: Decomposition
    channel: int
    shares: dict[str, list[float]]
    spectra: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was found.

    Attributes:
        pixels: uint8 (3, H, W), what the network saw before normalisation.
        classes: that were explained.
        stage: whose map Grad-CAM weighed.
        heat: (classes, H, W) in 0..1.
        levels: None for a network without recursive mixers.
    """

    pixels: Tensor
    classes: Sequence[ClassScore]
    stage: int
    heat: Tensor
    levels: Optional[Levels]


def explain(
    network: nn.Module,
    image: str,
    *,
    choose: Callable[[Sequence[ClassScore]], Sequence[ClassScore]],
    image_size: Optional[int] = None,
    stage: Optional[int] = None,
    block: Optional[str] = None,
    channel: Optional[int] = None,
    device: torch.device,
) -> Explanation:
    """Explains some classes of an image.

    Args:
        network: a classifier on `device`.
        image: file or address.
        choose: takes every class, the likeliest first, and gives those to explain.
        image_size: side in pixels; by default that of the weights.
        stage: for Grad-CAM; by default the last with 4x4 positions or more.
        block: name of the mixer, or of what it is the first mixer of; by default the first.
        channel: to draw; by default the one whose output varies most.
        device: to compute on.

    Raises:
        RecNextError: the image cannot be read, or there is no such stage, block or channel.
    """
    preparation = preparation_of(network, image_size=image_size)
    resize_network(network, preparation.size)
    count = max(int(getattr(network, "num_classes", 0) or 0), 1)
    result = next(iter(classify(network, [image], topk=count, image_size=preparation.size, workers=1)))
    if isinstance(result, Unreadable):
        raise RecNextError(f"cannot read {image}: {result.reason}")
    classes = choose(result.classes)
    pixels = preparation.evaluation_transform()(open_named(image))
    x = normalise(pixels[None], mean=preparation.mean, std=preparation.std, device=device)
    where = default_stage(network, x) if stage is None else stage
    heat = class_activation_maps(network, x, [score.index for score in classes], stage=where)
    levels = None
    if block is not None or channel is not None or recursive_mixers(network):
        levels = _levels(network, x, block=block, channel=channel)
    return Explanation(pixels=pixels, classes=classes, stage=where, heat=heat, levels=levels)


def _levels(network: nn.Module, x: Tensor, *, block: Optional[str], channel: Optional[int]) -> Levels:
    shares, name, parts = decompose_network(network, x, block=block)
    count = parts.output.shape[1]
    if channel is None:
        channel = int((parts.output - parts.constant)[0].flatten(1).var(1).argmax())
    elif channel >= count:
        raise RecNextError(f"--channel is {channel}: {name} has {count} channels, counted from 0")
    terms = [level.added for level in parts.levels] + [parts.output]
    spectra = [radial_power(term) for term in terms]
    return Levels(block=name, parts=parts, channel=channel, shares=shares, spectra=spectra)


def percent(share: float) -> str:
    """With one digit, and no sign before a zero."""
    text = f"{100 * share:.1f}"
    return f"{text.removeprefix('-') if float(text) == 0 else text}%"
