"""Which classifier to use, and how its images are prepared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from recnext.checkpoints import load
from recnext.engine.settings import require
from recnext.errors import RecNextError
from recnext.sizes import parse_size
from recnext.tasks.evaluation import NetworkSettings

Accelerate = Callable[..., Callable[[Tensor], Tensor]]
"""Makes a faster form of a network: called with it, an example of its input, and ``backend`` and ``precision``."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(NetworkSettings):
    """Which classifier to use, and on what images.

    Args:
        pretrained: the published ImageNet weights of --model.
        image_size: N or HxW in pixels; by default the one of the weights.
        batch_size: images at once, in each process.
    """

    pretrained: bool = False
    image_size: Optional[str] = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(self, "batch_size", self.batch_size >= 1, "an integer from 1")
        _ = self.size  # before weights are read

    @property
    def size(self) -> Optional[tuple[int, int]]:
        """Height and width in pixels; None for those of the weights."""
        return None if self.image_size is None else parse_size(self.image_size)

    @property
    def source(self) -> str:
        """The weights in words."""
        return self.checkpoint or f"{self.model} (published)"

    def load(self, device: torch.device, **kind: Any) -> nn.Module:
        """The network, as `recnext.load` makes it.

        Args:
            device: where it goes.
            **kind: such as ``num_classes``.

        Raises:
            RecNextError: no weights are given, or as `recnext.load`.
        """
        if self.checkpoint is None and not self.pretrained:
            raise RecNextError(
                "no weights are given, and random ones tell nothing: add --checkpoint FILE or RUN, or --model NAME "
                "--pretrained"
            )
        if self.checkpoint is None and self.model is None:
            raise RecNextError("--pretrained needs --model NAME ('recnext list' shows the networks)")
        fused = True if self.fused else None
        return load(
            self.model,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            fused=fused,
            ema=self.ema,
            device=device,
            **kind,
        )

    def example(self, network: nn.Module, device: torch.device) -> Tensor:
        """A batch such as the network will see, of random numbers."""
        channels, *sides = resolve_model_data_config(network)["input_size"]
        channels = int(getattr(network, "in_chans", channels))
        return torch.randn(self.batch_size, channels, *(self.size or sides), device=device)


def shorten(names: Sequence[str], *, shown: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f", ... {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
