"""Hugging Face data sets and folders of parquet files: by number, or read over the network from end to end."""

import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union

from recnext.errors import MissingExtraError, RecNextError

from .labelled import VALIDATION, LabelledImages
from .streams import MAX_RECORD_BYTES, Record, StreamSource

_LOG = logging.getLogger("recnext")


class HubImages(LabelledImages):
    """A data set of the hub or a folder of parquet files, memory-mapped: `datasets` copies it to its cache once.

    Images without a label, which the hub's test sets hide as -1, are left out.

    Args:
        name: on the hub, or a folder; columns "image" and "label".
        split: "train" or "val"; "validation" and "test" are taken for the latter where there is no "val".

    Raises:
        RecNextError: there is no such data set, split or column, or there are no class names or labels.
        MissingExtraError: `datasets` is not installed.
    """

    def __init__(self, name: str, *, split: str) -> None:
        self.split = _find_split(name, split)
        self.data = _load(name, self.split)
        names = _class_names(self.data, name, self.split)
        labels = [-1 if label is None else int(label) for label in self.data["label"]]
        self.rows = [row for row, label in enumerate(labels) if 0 <= label < len(names)]
        if not self.rows:
            raise RecNextError(f"{name} hides the labels of its split {self.split!r}: expected one that has labels")
        if len(self.rows) < len(labels):
            _LOG.warning("%s (%s): %d images without a label left out", name, self.split, len(labels) - len(self.rows))
        super().__init__([labels[row] for row in self.rows], class_names=names, root=f"{name} ({self.split})")
        self._place = f"{name}/{self.split}"

    def file(self, index: int) -> Union[str, io.BytesIO]:
        """The image's bytes, or its path."""
        image = self.data[self.rows[index]]["image"] or {}
        return io.BytesIO(image["bytes"]) if image.get("bytes") else str(image.get("path"))

    def identity(self, index: int) -> str:
        """Row and label; its name would have the image read."""
        return f"{self.rows[index]}\t{self.labels[index]}"

    def name(self, index: int) -> str:
        """The data set, split and row, and the file's name where the data set has it."""
        path = (self.data[self.rows[index]]["image"] or {}).get("path")
        return f"{self._place}/{self.rows[index]}" + (f" ({path})" if path else "")


class HubShards(StreamSource):
    """A data set of the hub read over the network, or parquet files in a folder, without a copy on disk.

    Args:
        name: on the hub, or a folder; columns "image" and "label".
        split: "train" or "val".

    Raises:
        RecNextError: there is no such data set, split or column, or its length is not known.
        MissingExtraError: `datasets` is not installed.
    """

    def __init__(self, name: str, *, split: str) -> None:
        chosen = _find_split(name, split)
        self.data = _load(name, chosen, streaming=True)
        names, images = _class_names(self.data, name, chosen), _count(name, chosen)
        super().__init__(images=images, shards=int(self.data.num_shards), class_names=names, root=f"{name} ({chosen})")

    def records(self, shard: int) -> Iterator[Record]:
        """The records of one file; where it is damaged, a last one says so."""
        place = f"{self.root} shard {shard}"
        try:
            for number, row in enumerate(self.data.shard(num_shards=self.shards, index=shard)):
                yield _record(row, f"{place}: {(row['image'] or {}).get('path') or number}")
        except Exception as error:  # parquet and the network raise errors of many kinds
            yield Record(place, None, -1, f"the shard ends here: {_first_line(error)}")


def _record(row: Mapping[str, Any], name: str) -> Record:
    image, label = row["image"] or {}, row["label"]
    data = image.get("bytes")
    if data is None and image.get("path"):
        data = Path(image["path"]).read_bytes()
    if data is None or len(data) > MAX_RECORD_BYTES:
        return Record(
            name, None, -1, "no image in this row" if data is None else f"over {MAX_RECORD_BYTES // 2**20} MiB"
        )
    return Record(name, data, -1 if label is None else int(label))


def _find_split(name: str, split: str) -> str:
    """What the data set calls a split."""
    try:
        from datasets import get_dataset_split_names
    except ImportError:
        raise MissingExtraError("datasets", "data", f"reading {name}") from None
    try:
        there = get_dataset_split_names(name)
    except Exception as error:  # the hub client, parquet and the builder raise errors of many kinds
        raise RecNextError(f"cannot open the data set {name}: {_first_line(error)}") from None
    wanted = ("train",) if split == "train" else VALIDATION
    chosen = next((candidate for candidate in wanted if candidate in there), None)
    if chosen is None:
        raise RecNextError(f"data set {name} has the splits {', '.join(there)}: expected {' or '.join(wanted)}")
    return chosen


def _load(name: str, split: str, **options: Any) -> Any:
    """The data set with its images as bytes."""
    from datasets import Image, load_dataset

    try:
        return load_dataset(name, split=split, **options).cast_column("image", Image(decode=False))
    except Exception as error:
        raise RecNextError(
            f"cannot read {name} ({split}), expected columns 'image' and 'label': {_first_line(error)}"
        ) from None


def _class_names(data: Any, name: str, split: str) -> tuple[str, ...]:
    """Those in the parquet files of a folder, which `datasets` reads of the first split alone, else the data set's."""
    from datasets import Features
    from pyarrow.parquet import read_schema

    schemas = [Features.from_arrow_schema(read_schema(path)) for path in _files(name, split) if Path(path).is_file()]
    given = {tuple(getattr(features.get("label"), "names", ())) for features in [*schemas] or [data.features or {}]}
    if len(given) > 1:
        raise RecNextError(f"the files of {name} ({split}) name their classes differently: write them alike")
    (names,) = given
    if not names:
        raise RecNextError(
            f"data set {name} has no class names: its column 'label' must be a ClassLabel "
            "(dataset.cast_column('label', datasets.ClassLabel(names=...)) before saving)"
        )
    return names


def _files(name: str, split: str) -> list[str]:
    """The parquet files of a split, paths or addresses."""
    from datasets import load_dataset_builder

    files = getattr(load_dataset_builder(name).config, "data_files", None) or {}
    return [str(path) for path in files.get(split, ()) if str(path).endswith(".parquet")]


def _count(name: str, split: str) -> int:
    """The images of a split: as the hub says, or as many as the parquet files of a folder have rows."""
    from datasets import load_dataset_builder
    from pyarrow.parquet import read_metadata

    try:
        known = (load_dataset_builder(name).info.splits or {}).get(split)
        if known is not None and known.num_examples:
            return int(known.num_examples)
        return sum(int(read_metadata(path).num_rows) for path in _files(name, split))
    except Exception as error:
        raise RecNextError(f"cannot count the images of {name} ({split}): {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
