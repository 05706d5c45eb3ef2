"""The data of a run."""

from dataclasses import dataclass
from typing import Any, Protocol


class ImageDataset(Protocol):
    """Pairs of image and label; the trainer sets the transform, which makes uint8 (3, H, W) tensors."""

    transform: Any

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


@dataclass(frozen=True)
class Splits:
    """What to train on, what to evaluate on, and the names of the labels."""

    train: ImageDataset
    val: ImageDataset
    class_names: tuple[str, ...]
    source: str
