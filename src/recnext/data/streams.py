"""Data that is read in order, shard by shard, for sets beyond one disk: keyed shuffles, and a position to resume at.

An epoch is a pure function of (seed, epoch, processes, workers). A resumed run reads past what it has seen without
decoding it, so it goes on exactly, given as many processes and workers; class folders need no such condition.
"""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .batch import Batch, KeyedSample, collate
from .images import UnreadableImageError, read_image
from .labelled import places_of, require_utf8
from .sampling import EvaluationBatches, SampleKey, TrainBatches, seed_everything
from .workers import start_worker

SHUFFLE = 2048  # records a reader holds to draw from, as compressed bytes: some 200 MB for ImageNet
MAX_RECORD_BYTES = 2**28  # of an image


class Record(NamedTuple):
    """One image as it is stored; without `data`, or without a label, there is a `problem`."""

    name: str
    data: Optional[bytes]
    label: int
    problem: str = ""


class StreamSource:
    """Images with labels that are read in order, shard by shard; a subclass reads one.

    Args:
        images: how many there are.
        shards: how many hold them.
        class_names: in the order of the stored labels.
        root: what to call the data set.
    """

    def __init__(self, *, images: int, shards: int, class_names: Sequence[str], root: str) -> None:
        self.images = images
        self.shards = shards
        self.class_names = tuple(require_utf8(name, f"a class of {root}") for name in class_names)
        self.root = root
        self._stored = self.class_names
        self._places = list(range(len(self.class_names)))

    def __len__(self) -> int:
        return self.images

    def take_classes(self, names: Sequence[str]) -> None:
        """Labels the images by the places of their classes in `names`.

        Raises:
            RecNextError: a class is not among them.
        """
        self._places = places_of(self._stored, names, root=self.root)
        self.class_names = tuple(names)

    def records(self, shard: int) -> Iterator[Record]:
        """A shard's records as they are stored, in order; a damaged shard ends with one that says so."""
        raise NotImplementedError

    def read(self, shard: int) -> Iterator[Record]:
        """A shard's records with the labels of `class_names`; a label that is no class is a problem."""
        for record in self.records(shard):
            if record.problem or 0 <= record.label < len(self._places):
                yield record if record.problem else record._replace(label=self._places[record.label])
            else:
                expected = f"its label is {record.label}: expected 0 to {len(self._places) - 1}"
                yield record._replace(data=None, problem=expected)


class StreamLoader:
    """Batches of a stream, for the process that `batch_sampler` stands for; iterated once an epoch.

    Args:
        source: to read.
        batch_sampler: says which process this is, the batch, and where in which epoch to begin.
        transform: of each image.
        seed: of the transforms and the shuffle.
        workers: processes; each reads shards of its own, or, when there are too few, every so-many-th record.
        pin_memory: for faster copies to a GPU.
    """

    def __init__(
        self,
        source: StreamSource,
        batch_sampler: Union[TrainBatches, EvaluationBatches],
        *,
        transform: Optional[Callable[[Any], Any]] = None,
        seed: int = 0,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = source
        self.transform = transform
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.workers = workers
        self.pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        stream: type[_Stream] = _Training if isinstance(self.batch_sampler, TrainBatches) else _Evaluation
        loader: DataLoader[Batch] = DataLoader(
            stream(self),  # type: ignore[arg-type]
            batch_size=None,
            num_workers=self.workers,
            worker_init_fn=start_worker,
            pin_memory=self.pin_memory,
        )
        return iter(loader)


class _Stream(IterableDataset[Batch]):
    """One process's batches; in a worker, that worker's share of them."""

    def __init__(self, loader: StreamLoader) -> None:
        self.source = loader.dataset
        self.batches = loader.batch_sampler
        self.transform = loader.transform
        self.seed = loader.seed
        self.workers = max(loader.workers, 1)

    def worker(self) -> int:
        info = get_worker_info()
        return 0 if info is None else info.id

    def records(self, reader: int, readers: int, order: Sequence[int]) -> Iterator[Record]:
        """Reader's share of one pass, whole shards where there are enough."""
        if len(order) >= readers:
            for shard in order[reader::readers]:
                yield from self.source.read(shard)
        else:
            every = (record for shard in order for record in self.source.read(shard))
            yield from islice(every, reader, None, readers)

    def decode(self, record: Record, key: SampleKey) -> KeyedSample:
        seed_everything(self.seed, key.epoch, key.position)
        try:
            if record.data is None or record.problem:
                raise UnreadableImageError(record.problem)
            image: Any = read_image(io.BytesIO(record.data))
        except UnreadableImageError as error:
            return KeyedSample(None, -1, f"cannot read image {record.name}: {error}", record.name, key)
        image = image if self.transform is None else self.transform(image)
        return KeyedSample(image, record.label, None, record.name, key)


class _Training(_Stream):
    batches: TrainBatches

    def __iter__(self) -> Iterator[Batch]:
        """Full batches. Worker w of W gives every W-th batch; which lane of the stream those are shifts with start."""
        batches, worker = self.batches, self.worker()
        lane = (batches.start + worker) % self.workers
        reader = batches.rank * self.workers + lane
        records = self.shuffled(reader, batches.world_size * self.workers)
        skipped = (batches.start + worker - lane) // self.workers
        records = islice(records, skipped * batches.batch_size, None)
        for step in range(batches.start + worker, len(batches), self.workers):
            keys = (SampleKey(-1, batches.epoch, position) for position in batches.positions(step))
            yield self.filled([self.decode(record, key) for key, record in zip(keys, records, strict=False)], step)

    def filled(self, samples: list[KeyedSample], step: int) -> Batch:
        """A batch whose unreadable images are replaced by others of the same batch."""
        readable = [sample for sample in samples if sample.image is not None]
        if not readable:
            return collate(samples)
        draw = random.Random(_seed(self.seed, self.batches.epoch, step, self.batches.rank))
        return collate(
            [
                sample
                if sample.image is not None
                else draw.choice(readable)._replace(unreadable=sample.unreadable, key=sample.key)
                for sample in samples
            ]
        )

    def shuffled(self, reader: int, readers: int) -> Iterator[Record]:
        """Endless records, pass after pass; each as often as repeats say."""
        batches, draw = self.batches, random.Random(_seed(self.seed, self.batches.epoch, reader))
        for number in count():
            order = list(range(self.source.shards))
            random.Random(_seed(self.seed, batches.epoch, number if len(order) < readers else 0)).shuffle(order)
            empty = True
            for record in _buffered(self.records(reader, readers, order), SHUFFLE, draw):
                empty = False
                for _ in range(batches.repeats):
                    yield record
            if empty:
                yield Record(self.source.root, None, -1, f"nothing for reader {reader + 1} of {readers}")


class _Evaluation(_Stream):
    batches: EvaluationBatches

    def __iter__(self) -> Iterator[Batch]:
        """Each image once over all processes and workers; the last batch of each may be smaller."""
        batches = self.batches
        reader = batches.rank * self.workers + self.worker()
        order = range(self.source.shards)
        records = enumerate(self.records(reader, batches.world_size * self.workers, order))
        while some := list(islice(records, batches.batch_size)):
            yield collate([self.decode(record, SampleKey(-1, 0, position)) for position, record in some])


def _buffered(records: Iterator[Record], size: int, draw: random.Random) -> Iterator[Record]:
    """The same records in another order: each is drawn from a buffer of the next `size`."""
    buffer = list(islice(records, size))
    for record in records:
        place = draw.randrange(len(buffer))
        chosen, buffer[place] = buffer[place], record
        yield chosen
    draw.shuffle(buffer)
    yield from buffer


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
