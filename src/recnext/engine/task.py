"""What the loop needs to know of a job; classification, detection and segmentation differ in this only."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Optional, Protocol

import torch
from torch import Tensor, nn

from recnext.checkpoints.metadata import CheckpointMetadata

Metrics = dict[str, float]


class LoadedBatch(Protocol):
    """What the loop asks of a batch; the rest is between the loader and the task.

    Attributes:
        names: of its samples, written down when the loss diverges.
        unreadable: why samples could not be read; others took their place.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def unreadable(self) -> tuple[str, ...]: ...


class BatchOrder(Protocol):
    """A `batch_sampler` whose order is a function of the epoch: `recnext.data.sampling.TrainBatches` or the like.

    Attributes:
        batch_size: samples a batch in each process.
        world_size: processes.
        length: samples in the data.
    """

    batch_size: int
    world_size: int
    length: int

    def set_position(self, epoch: int, start: int = 0) -> None:
        """The next iteration gives `epoch`'s batches from number `start` on."""
        ...

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Task(Protocol):
    """A network, its loss and its evaluation.

    Attributes:
        model: trained in place.
    """

    model: nn.Module

    def loss(self, model: nn.Module, batch: Any, *, device: torch.device) -> Tensor:
        """The mean loss of a batch as a float32 scalar.

        Python's, NumPy's and torch's generators are seeded from the step before each call, so that whatever is drawn
        here is drawn again in a resumed run.

        Args:
            model: `self.model`, wrapped as the engine wants.
            batch: from the training loader.
            device: where the model is.
        """
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
        """Runs this process's share of the evaluation; the function returned adds up over all processes.

        Args:
            model: in eval mode: `self.model`, or the average of its weights.
            batches: the evaluation loader.
            device: where the model is.
            precision: for autocast; None is float32.
            should_stop: asked between batches; True ends early.
        """
        ...

    def metadata(self, epoch: int) -> CheckpointMetadata:
        """The header of the weights saved after `epoch`."""
        ...
