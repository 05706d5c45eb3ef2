"""What the loop needs to know of a job; classification, detection and segmentation differ in this only."""

from collections.abc import Callable, Iterable
from typing import Any, Optional, Protocol

import torch
from torch import Tensor, nn

from recnext.checkpoints.metadata import CheckpointMetadata

Metrics = dict[str, float]


class Task(Protocol):
    """A network, its loss and its evaluation.

    Attributes:
        model: trained in place.
        monitor: the metric, higher is better, by which the best epoch is chosen.
    """

    model: nn.Module
    monitor: str

    def loss(self, model: nn.Module, batch: Any, *, device: torch.device) -> Tensor:
        """The mean loss of a batch as a float32 scalar; `model` is `self.model`, wrapped as the engine wants."""
        ...

    def evaluate(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        *,
        device: torch.device,
        precision: Optional[torch.dtype],
        should_stop: Callable[[], bool],
    ) -> Callable[[], Metrics]:
        """Runs this process's share of the evaluation; the function returned adds up over all processes."""
        ...

    def metadata(self, epoch: int) -> CheckpointMetadata:
        """The header of the weights saved after `epoch`."""
        ...
