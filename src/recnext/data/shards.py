"""Shards to stream: tar files as the webdataset package writes them, and Hugging Face data sets, described by timm."""

import json
import re
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any, Optional

from recnext.errors import RecNextError

from .records import hf_class_names, require_datasets, with_hf_split
from .streams import Record

INDEX = "_info.json"  # timm's name and format, with "class_names" added
_IMAGES = ("jpg", "jpeg", "png", "webp")
_TIMEOUT = 30.0  # seconds that a server may be silent
_INDEX_BYTES = 2**26
_MEMBER = re.compile(r"((?:.*/)?[^.]+)\.([^/]*)")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


class TarShards:
    """Tar files of ``<key>.jpg`` and ``<key>.cls`` pairs, in a folder or behind an http(s) address.

    Args:
        root: folder or address that holds the files and ``_info.json``.
        split: "train" or "val" ("validation" is taken for it).

    Raises:
        RecNextError: there is no such index or split, or it names files outside of `root`.
    """

    def __init__(self, root: str, *, split: str) -> None:
        folder = Path(root)
        if folder.is_dir() and not (folder / INDEX).is_file():
            raise RecNextError(f"{root} has no {INDEX}, which names and counts the shards: recnext data index {root}")
        info = _read_index(f"{root}/{INDEX}")
        wanted = ("train",) if split == "train" else ("val", "validation", "valid", "test")
        name = next((name for name in wanted if isinstance(info["splits"].get(name), dict)), None)
        if name is None:
            raise RecNextError(f"{root}/{INDEX} lists no split {' or '.join(wanted)}")
        names = info.get("class_names")
        if not names or not isinstance(names, list):
            raise RecNextError(f"{root}/{INDEX} has no 'class_names', a list in the order of the labels: add it")
        self.root = f"{root} ({name})"
        self.class_names = tuple(map(str, names))
        self.images, self.files = _shards_of(info["splits"][name], root)

    def __len__(self) -> int:
        return self.images

    @property
    def shards(self) -> int:
        """Tar files."""
        return len(self.files)

    def read(self, shard: int) -> Iterator[Record]:
        """The records of one tar file."""
        return read_tar(self.files[shard])


def _read_index(place: str) -> dict[str, Any]:
    try:
        with closing(_open(place)) as file:
            info = json.loads(file.read(_INDEX_BYTES))
    except (OSError, HTTPException) as error:
        raise RecNextError(f"cannot read {place}: {getattr(error, 'reason', None) or error}") from None
    except ValueError:
        raise RecNextError(f"{place} is not JSON: write it again with 'recnext data index'") from None
    if not isinstance(info, dict) or not isinstance(info.get("splits"), dict):
        raise RecNextError(f"{place} has no 'splits': write it again with 'recnext data index'")
    return info


def _shards_of(split: Mapping[str, Any], root: str) -> tuple[int, list[str]]:
    """Images and the places of the tar files, none of which may lie outside of `root`."""
    files, images = split.get("filenames"), split.get("num_samples")
    if not isinstance(images, int) or not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise RecNextError(f"{root}/{INDEX} has no 'filenames' and 'num_samples' of a split: recnext data index")
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or Path(file).is_absolute() or ".." in path.parts or ":" in file:
            raise RecNextError(f"{root}/{INDEX} names {file!r}: expected tar files in {root} itself")
    return images, [f"{root}/{file}" for file in files]


def _open(place: str) -> IO[bytes]:
    """A file, or what an http(s) address gives; there is no other way, and no name is ever run as a command."""
    if _ADDRESS.match(place):
        answer: IO[bytes] = urllib.request.urlopen(place, timeout=_TIMEOUT)
        return answer
    return open(place, "rb")


def read_tar(place: str) -> Iterator[Record]:
    """The records of one tar file; where it is damaged or cannot be opened, a last one says so."""
    try:
        with closing(_open(place)) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            yield from (_record(sample, key, place) for key, sample in _samples(archive))
    except Exception as error:  # tarfile, its decompressors and the network raise errors of many kinds
        reason = str(error).strip() or type(error).__name__
        yield Record(place, None, -1, f"the shard ends here: {reason.splitlines()[0]}")


def _samples(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Neighbours that are called alike up to the first dot, by what follows it in lower case."""
    key, sample = "", dict[str, bytes]()
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]
        found = _MEMBER.fullmatch(member.name)
        if not member.isreg() or found is None or re.match(r"__[^/]*__($|/)", member.name):
            continue
        if found[1] != key:
            if sample:
                yield key, sample
            key, sample = found[1], {}
        content = archive.extractfile(member)
        if found[2].lower() in sample:
            raise RecNextError(f"{member.name} is there twice")
        sample[found[2].lower()] = content.read() if content else b""
    if sample:
        yield key, sample


def _record(sample: Mapping[str, bytes], key: str, place: str) -> Record:
    name = f"{place}:{key}"
    data = next((sample[suffix] for suffix in _IMAGES if suffix in sample), None)
    if data is None:
        return Record(name, None, -1, "no .jpg, .png or .webp in the shard")
    if "cls" not in sample:
        return Record(name, data, -1, "no .cls beside it")
    label = sample["cls"].strip()
    if not label.isdigit():
        return Record(name, data, -1, f"its .cls holds {label[:20]!r}: expected the number of a class")
    return Record(name, data, int(label))


def write_index(root: Path, *, class_names: tuple[str, ...] = ()) -> dict[str, tuple[int, int]]:
    """Counts local shards and writes ``_info.json``: ``*train*.tar`` are for training, ``*val*.tar`` for evaluation.

    Args:
        root: folder of the shards.
        class_names: in the order of the labels; by default their numbers.

    Returns:
        Shards and images of each split.

    Raises:
        RecNextError: there are no shards, one is damaged, or a label has no name.
    """
    splits: dict[str, Any] = {}
    largest = -1
    for split, word in (("train", "train"), ("validation", "val")):
        files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.tar") if word in path.name)
        if not files:
            continue
        lengths = []
        for file in files:
            labels = [record.label for record in _whole(read_tar(str(root / file)))]
            lengths.append(len(labels))
            largest = max([largest, *labels])
        splits[split] = {
            "name": split,
            "num_samples": sum(lengths),
            "filenames": files,
            "shard_lengths": lengths,
        }
    if not splits:
        raise RecNextError(f"{root} holds no shards: expected files such as train-0000.tar and val-0000.tar")
    if class_names and largest >= len(class_names):
        raise RecNextError(f"{root} has labels up to {largest}, but {len(class_names)} class names are given")
    names = list(class_names) or [str(label) for label in range(largest + 1)]
    (root / INDEX).write_text(json.dumps({"splits": splits, "class_names": names}, indent=1), encoding="utf-8")
    return {name: (len(split["filenames"]), split["num_samples"]) for name, split in splits.items()}


def _whole(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if record.problem:
            raise RecNextError(f"{record.name}: {record.problem}")
        yield record


class HfShards:
    """A Hugging Face data set read over the network, or parquet files in a folder, without a copy on disk.

    Args:
        name: on the hub, or a folder; columns "image" and "label".
        split: "train" or "val".

    Raises:
        RecNextError: there is no such data set, split or column, or its length is not known.
        MissingExtraError: `datasets` is not installed.
    """

    def __init__(self, name: str, *, split: str) -> None:
        require_datasets(name)
        from datasets import Image
        from timm.data.readers.reader_hfids import ReaderHfids

        folder = Path(name)

        def make(chosen: str) -> Any:
            return ReaderHfids(name, split=chosen, num_samples=_parquet_rows(_parquet_files(folder, chosen)))

        reader = with_hf_split(name, split, make)
        self.root = f"{name} ({reader.split})"
        self.data = reader.builder.as_streaming_dataset(split=reader.split).cast_column("image", Image(decode=False))
        self.images = int(reader.num_samples)
        names = list(reader.class_to_idx) or _parquet_class_names(_parquet_files(folder, reader.split))
        self.class_names = hf_class_names(names, name)

    def __len__(self) -> int:
        return self.images

    @property
    def shards(self) -> int:
        """Files."""
        return int(self.data.num_shards)

    def read(self, shard: int) -> Iterator[Record]:
        """The records of one file."""
        part = self.data.shard(num_shards=self.shards, index=shard)
        for number, row in enumerate(part):
            image = row["image"]
            name = f"{self.root} shard {shard}: {image.get('path') or number}"
            data = image.get("bytes")
            if data is None and image.get("path"):
                data = Path(image["path"]).read_bytes()
            yield Record(name, data, int(row["label"]), "" if data is not None else "no image in this row")


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """A local folder's files of a split; none for data sets on the hub, which tells what they would."""
    return sorted(path for path in folder.rglob("*.parquet") if split in path.relative_to(folder).as_posix())


def _parquet_rows(files: list[Path]) -> Optional[int]:
    from pyarrow.parquet import read_metadata

    return sum(read_metadata(path).num_rows for path in files) or None


def _parquet_class_names(files: list[Path]) -> list[str]:
    if not files:
        return []
    from datasets import Features
    from pyarrow.parquet import read_schema

    label = Features.from_arrow_schema(read_schema(files[0])).get("label")
    return list(getattr(label, "names", None) or ())
