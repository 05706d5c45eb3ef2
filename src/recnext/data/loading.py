"""From a data set to batches: keyed randomness, and unreadable images as values."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol, Union, cast

from torch.utils.data import DataLoader, Dataset

from recnext.errors import RecNextError

from .batch import Batch, KeyedSample, collate
from .images import UnreadableImageError
from .sampling import EvaluationBatches, SampleKey, TrainBatches, seed_everything
from .streams import StreamLoader, StreamSource
from .workers import start_worker

_SPREAD = 16  # images looked at before all are
_REPLACEMENTS = 10  # tries to find a readable image in place of an unreadable one


class SampleSource(Protocol):
    """A map-style data set of (image, label) pairs; a method `name` of an index may name samples."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, Any]: ...


class _KeyedDataset(Dataset[KeyedSample]):
    """Looks samples up by key. Unreadable images become values, which cross process borders unharmed."""

    def __init__(
        self, dataset: SampleSource, transform: Optional[Callable[..., Any]], *, pairs: bool, seed: int, replace: bool
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.pairs = pairs
        self.seed = seed
        self.replace = replace

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> KeyedSample:
        seed_everything(self.seed, key.epoch, key.position)
        index, unreadable = key.sample, None
        for _ in range(_REPLACEMENTS if self.replace else 1):
            try:
                image, label = self.dataset[index]
                if self.transform is not None and self.pairs:
                    image, label = self.transform(image, label)
                elif self.transform is not None:
                    image = self.transform(image)
                return KeyedSample(image, label, unreadable, self.name(index), key)
            except UnreadableImageError as error:
                unreadable = unreadable or str(error)
                index = random.randrange(len(self))
        return KeyedSample(None, -1, unreadable, self.name(index), key)

    def name(self, index: int) -> str:
        name_of = getattr(self.dataset, "name", None)
        return str(index) if name_of is None else name_of(index)


def require_readable(dataset: Union[SampleSource, StreamSource]) -> None:
    """Looks for an image that can be read, so that a folder of broken ones is not taken for a network that diverges.

    Raises:
        RecNextError: there is none; counts them and names the first.
    """
    if isinstance(dataset, StreamSource):
        return
    spread = range(0, len(dataset), max(len(dataset) // _SPREAD, 1))
    first = ""
    for index in (*spread, *range(len(dataset))):
        try:
            dataset[index]
        except UnreadableImageError as error:
            first = first or str(error)
        else:
            return
    if first:
        where = getattr(dataset, "root", "the data")
        raise RecNextError(f"none of the {len(dataset)} images in {where} can be read; the first: {first}")


def make_loader(
    dataset: Union[SampleSource, StreamSource],
    batches: Union[TrainBatches, EvaluationBatches],
    *,
    transform: Optional[Callable[..., Any]] = None,
    pairs: bool = False,
    seed: int = 0,
    workers: int = 0,
    pin_memory: bool = False,
    collate_fn: Callable[[Sequence[KeyedSample]], Any] = collate,
) -> DataLoader[Any]:
    """Loads `batches` of a data set.

    Args:
        dataset: of images and labels, by number or as a stream; may raise `UnreadableImageError`: in training
            another image takes the place.
        batches: `TrainBatches` or `EvaluationBatches` over the data set's length.
        transform: of each image, in the worker; makes uint8 (3, H, W) tensors for `collate`.
        pairs: whether the transform takes and gives image and label.
        seed: of the transforms' randomness.
        workers: processes; 0 loads in this one.
        pin_memory: for faster copies to a GPU.
        collate_fn: makes a batch; a data set for another task may give anything for image and label.
    """
    if isinstance(dataset, StreamSource):
        stream = StreamLoader(dataset, batches, transform=transform, seed=seed, workers=workers, pin_memory=pin_memory)
        return cast("DataLoader[Batch]", stream)  # iterated alike, with the same batch_sampler
    keyed = _KeyedDataset(dataset, transform, pairs=pairs, seed=seed, replace=isinstance(batches, TrainBatches))
    return DataLoader(
        keyed,  # type: ignore[arg-type]
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collate_fn,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )
