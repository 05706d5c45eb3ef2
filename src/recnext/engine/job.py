"""What a task tells the engine: its settings, its metrics, and how data, network and loss are made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn
from torch.utils.data import DataLoader

from .run_folder import Record
from .settings import LoopSettings
from .task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator

EMA = "ema_"  # before the key of a metric of the averaged weights


@dataclass(frozen=True)
class Metric:
    """A number that an evaluation gives.

    Args:
        key: in records and results.
        title: for people.
        unit: "%" of what curves draw together; "nats" of losses.
        higher: whether more is better.
    """

    key: str
    title: str
    unit: str = "%"
    higher: bool = True

    def best(self, records: Sequence[Record], *, prefix: str = "") -> Record:
        """The record, the earliest of equals, with the best value; one that is not a number is the worst."""
        return max(records, key=lambda record: self._rank(record.get(prefix + self.key)))

    def _rank(self, value: Any) -> float:
        if value is None or math.isnan(value):
            return -math.inf
        return value if self.higher else -value


class Splits(Protocol):
    """The data of a run, opened.

    Attributes:
        train: images to learn from.
        val: images to evaluate on.
        class_names: in the order of the labels.
        source: what was opened, for people.
    """

    @property
    def train(self) -> Any: ...
    @property
    def val(self) -> Any: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def source(self) -> str: ...


class Job(Protocol):
    """One task: classification, detection or segmentation. The engine knows no other names than these.

    Attributes:
        name: as ``task`` in ``config.yaml``.
        settings: class of its settings.
        metrics: what its evaluation gives; the first picks the best epoch.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> type[LoopSettings]: ...
    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def open(self, settings: Any, data: Any) -> Splits:
        """The images in `data`, as a user names them, or as they are where they are open already.

        Raises:
            RecNextError: they are not there, or not as they should be.
        """
        ...

    def build(self, settings: Any, splits: Any, *, weights: bool) -> nn.Module:
        """The network; without `weights` it starts random, as a saved state follows.

        Raises:
            RecNextError: the weights are none, or do not fit.
        """
        ...

    def resolve(self, settings: Any, model: nn.Module) -> Any:
        """The settings with what the weights brought along, so that a resumed run need not read them again."""
        ...

    def task(self, settings: Any, model: nn.Module, splits: Any, accelerator: "Accelerator") -> Task:
        """Loss and evaluation."""
        ...

    def loaders(
        self, settings: Any, model: nn.Module, splits: Any, accelerator: "Accelerator"
    ) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Batches to train on, whose `batch_sampler` is a `BatchOrder`, and to evaluate on, in this process."""
        ...

    def head(self, model: nn.Module) -> nn.Module:
        """The part that learns alone in the first `freeze_epochs`."""
        ...

    def facts(self, settings: Any, model: nn.Module, splits: Any) -> Mapping[str, Any]:
        """Its part of ``config.yaml``, plain values."""
        ...

    def title(self, settings: Any) -> str:
        """The network and the size of its images in words."""
        ...

    def notes(self, settings: Any, splits: Any) -> Sequence[str]:
        """Further lines at the start of a run."""
        ...
