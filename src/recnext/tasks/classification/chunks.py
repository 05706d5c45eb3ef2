"""Images for work that several processes share out and that may be killed: chunks of a fixed name and content.

A chunk does not depend on how many processes there are, so a run may go on with another number of them.
"""

import glob
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Optional, Protocol

from recnext.data.download import is_url
from recnext.data.listing import find_images
from recnext.data.tars import read_tar
from recnext.errors import RecNextError

Done = Callable[[str], bool]


@dataclass(frozen=True)
class Item:
    """An image: its path or address, or with `data` its name in an archive; with a `problem` it cannot be had."""

    name: str
    data: Optional[bytes] = None
    problem: str = ""


@dataclass(frozen=True)
class Chunk:
    """Some images in a row; the names of chunks sort as the images do."""

    name: str
    items: Sequence[Item]


class ChunkSource(Protocol):
    """Where images come from.

    Attributes:
        total: images, None where only reading everything would tell.
    """

    total: Optional[int]

    def facts(self) -> dict[str, Any]:
        """What must be the same in a run that goes on."""
        ...

    def chunks(self, *, rank: int, world_size: int, rows: int, done: Done) -> Iterator[Chunk]:
        """This process's chunks of at most `rows` images that are not done."""
        ...


class FileChunks:
    """Files, folders, patterns and addresses, as of `find_images`.

    Args:
        inputs: of `find_images`.

    Raises:
        RecNextError: there is nothing at all.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self.inputs = list(inputs)
        listing = hashlib.blake2b(digest_size=16)
        self.total: Optional[int] = 0
        for self.total, name in enumerate(find_images(inputs), 1):
            listing.update(name.encode("utf-8", "surrogateescape") + b"\n")
        self.listing = listing.hexdigest()

    def facts(self) -> dict[str, Any]:
        """The number of images and a hash of their names."""
        return {"images": self.total, "listing": self.listing}

    def chunks(self, *, rank: int, world_size: int, rows: int, done: Done) -> Iterator[Chunk]:
        """Every `world_size`-th chunk."""
        found = find_images(self.inputs)
        number = 0
        while names := list(islice(found, rows)):
            name = f"{number:08d}"
            if number % world_size == rank and not done(name):
                yield Chunk(name, [Item(image) for image in names])
            number += 1


class ShardChunks:
    """Tar shards; each is read by one process.

    Args:
        inputs: tar files, patterns of them, or addresses ending in ``.tar``.

    Raises:
        RecNextError: there are none, or other files among them.
    """

    total: Optional[int] = None

    def __init__(self, inputs: Sequence[str]) -> None:
        self.files = [name for given in inputs for name in _matching(given)]
        missing = [name for name in self.files if not is_url(name) and not Path(name).is_file()]
        if missing or not self.files:
            raise RecNextError(f"there is no tar file {', '.join(missing[:3] or inputs)}")

    def facts(self) -> dict[str, Any]:
        """The names of the files."""
        return {"shards": self.files}

    def chunks(self, *, rank: int, world_size: int, rows: int, done: Done) -> Iterator[Chunk]:
        """Those of every `world_size`-th shard; what is done of a shard is read past, not decoded."""
        for shard in range(rank, len(self.files), world_size):
            records = read_tar(self.files[shard])
            for number in count():
                some = list(islice(records, rows))
                if not some:
                    break
                name = f"{shard:06d}-{number:08d}"
                if not done(name):
                    yield Chunk(name, [_item(record) for record in some])


def open_chunks(inputs: Sequence[str]) -> ChunkSource:
    """Shards where all inputs are tar files, otherwise images.

    Raises:
        RecNextError: there is nothing, or tar files among images.
    """
    tars = [name for name in inputs if name.endswith(".tar")]
    if tars and len(tars) < len(inputs):
        raise RecNextError(f"{tars[0]} is a tar file, {len(inputs) - len(tars)} inputs are not: give one kind")
    return ShardChunks(inputs) if tars else FileChunks(inputs)


def _matching(name: str) -> list[str]:
    return sorted(glob.glob(name)) if glob.has_magic(name) and not is_url(name) else [name]


def _item(record: Any) -> Item:
    return Item(record.name, record.data, "" if record.data is not None else record.problem)
