"""The effective receptive fields of several networks, measured alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Optional

import torch
from torch import Tensor, nn

from recnext.checkpoints import load

from .erf import Contribution, centre_of_mass, contribution_areas, effective_receptive_field, settle_norms
from .images import image_batches, read_size, resize_network
from .mixer_span import Span, mixer_spans

_SIZE = (224, 224)  # of networks that are only named


@dataclass(frozen=True, kw_only=True)
class NetworkSource:
    """A network to look into.

    Attributes:
        name: of timm; None where the checkpoint tells it.
        checkpoint: its weights; None for published or random ones.
        pretrained: takes the published weights.
    """

    name: Optional[str]
    checkpoint: Optional[str]
    pretrained: bool

    @property
    def weights(self) -> str:
        """Where they come from, or "untrained"."""
        return self.checkpoint or ("published" if self.pretrained else "untrained")

    def load(self, *, device: torch.device, seed: int) -> nn.Module:
        """The network; `seed` is that of random weights."""
        torch.manual_seed(seed)
        return load(self.name, checkpoint=self.checkpoint, pretrained=self.pretrained, device=device)


@dataclass(frozen=True, kw_only=True)
class FieldSettings:
    """How fields are measured.

    Attributes:
        images: file, folder or pattern; None for random noise.
        count: images, or draws of noise.
        size: height and width in pixels; None for what a checkpoint was trained for, and 224 otherwise.
        stage: whose map's centre is taken, counted from 0, or from the end.
        centre: "image", or "mass" for each map's own centre of mass: the middle of the squares.
        areas: "linear", or "log" for squares on log10(1 + contribution).
        seed: of random weights and noise.
        device: to compute on.
    """

    images: Optional[str]
    count: int
    size: Optional[tuple[int, int]]
    stage: int
    centre: str
    areas: str
    seed: int
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Field:
    """The effective receptive field of one network.

    Attributes:
        model: its name.
        weights: where they come from, or "untrained".
        images: that it was measured on, in words.
        weights_map: (H, W) float64, the contribution of every pixel.
        contributions: squares that hold given shares.
        centre: row and column of the middle of those squares.
        offset: rows and columns from the middle of the image to the map's centre of mass.
        spans: of its token mixers.
    """

    model: str
    weights: str
    images: str
    weights_map: Tensor
    contributions: list[Contribution]
    centre: tuple[int, int]
    offset: tuple[float, float]
    spans: list[Span]


def measure_field(subject: NetworkSource, settings: FieldSettings, *, on_images: Callable[[int], None]) -> Field:
    """Measures one network; the BatchNorms of an untrained one get the statistics of the images first.

    Args:
        subject: the network.
        settings: how.
        on_images: called with the number of images done, for progress.

    Raises:
        RecNextError: the network or its images cannot be had, or do not go together.
    """
    network = subject.load(device=settings.device, seed=settings.seed)
    size = settings.size or (_SIZE if subject.checkpoint is None else read_size(network))
    resize_network(network, size)
    shown = image_batches(
        network, settings.images, count=settings.count, size=size, seed=settings.seed, device=settings.device
    )
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    if subject.weights == "untrained":
        settle_norms(network, islice(shown.batches(), 2))
    batches: Iterator[Tensor] = shown.batches()
    contribution = effective_receptive_field(network, batches, stage=settings.stage, on_batch=on_images)
    height, width = contribution.shape
    row, column = centre_of_mass(contribution)
    middle = (round(row), round(column)) if settings.centre == "mass" else (height // 2, width // 2)
    scaled = torch.log10(1 + contribution) if settings.areas == "log" else contribution
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return Field(
        model=config.get("architecture") or type(network).__name__,
        weights=subject.weights,
        images=f"{height}x{width}, {shown.described}",
        weights_map=contribution,
        contributions=contribution_areas(scaled, centre=middle),
        centre=middle,
        offset=(row - (height - 1) / 2, column - (width - 1) / 2),
        spans=mixer_spans(network),
    )
