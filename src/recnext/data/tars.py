"""Tar archives of images: by number, from class folders in them, and as shards that are read from end to end."""

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from recnext.errors import RecNextError
from recnext.files import write_atomically
from recnext.text import read_json, to_json

from .download import DownloadError, download, is_url, open_stream, reason_of
from .images import IMAGE_SUFFIXES
from .labelled import VALIDATION, LabelledImages, require_utf8
from .listing import Survey, as_composed, is_ignored, is_ignored_path, walk
from .streams import MAX_RECORD_BYTES, Record, StreamSource

INDEX = "_info.json"  # timm's name and format, with "class_names" added
_META = re.compile(r"__[^/]*__(/|$)")  # what webdataset adds to the samples


class Member(NamedTuple):
    """Where the bytes of an image lie."""

    archive: str
    name: str
    offset: int
    size: int


class TarImages(LabelledImages):
    """``root/train.tar`` or ``root/train/*.tar`` (and val), of images in class folders or one archive a class.

    Args:
        root: folder of the archives.
        split: "train" or "val".

    Raises:
        RecNextError: there are no archives, one is damaged or compressed, or there are no images in them.
    """

    def __init__(self, root: Path, *, split: str) -> None:
        archive, folder = root / f"{split}.tar", root / split
        files = (
            [archive]
            if archive.is_file()
            else sorted(path for path in folder.glob("*.tar") if not is_ignored(path.name))
        )
        if not files:
            raise RecNextError(
                f"{root} has neither {archive.name} nor {split}/*.tar: expected archives of class folders"
            )
        found = [
            (require_utf8(as_composed(class_name), f"{file}:{member.name}"), member)
            for file in files
            for class_name, member in _members(file, file.stem if file != archive else "")
        ]
        if not found:
            raise RecNextError(f"{files[0]} holds no images: expected <class>/<name>.jpg in it")
        found.sort(key=lambda pair: (pair[1].archive, pair[1].name))
        names = sorted({class_name for class_name, _ in found})
        label = {class_name: number for number, class_name in enumerate(names)}
        self.members = [member for _, member in found]
        root = archive if archive.is_file() else folder
        super().__init__([label[class_name] for class_name, _ in found], class_names=names, root=root)

    def file(self, index: int) -> io.BytesIO:
        """The image's bytes."""
        member = self.members[index]
        with open(member.archive, "rb") as file:
            file.seek(member.offset)
            return io.BytesIO(file.read(member.size))

    def name(self, index: int) -> str:
        """The archive, and the name in it."""
        return f"{self.members[index].archive}:{self.members[index].name}"


def _members(file: Path, class_name: str) -> Iterator[tuple[str, Member]]:
    """(class, place) of the images in an archive, and in the archives in it."""
    try:
        with file.open("rb") as opened:
            yield from _images_in(opened, Member(str(file), "", 0, file.stat().st_size), class_name)
    except tarfile.TarError as error:
        raise RecNextError(f"{file} is no tar archive, is compressed, or is cut off: {error}") from None


def _images_in(file: IO[bytes], place: Member, class_name: str) -> Iterator[tuple[str, Member]]:
    file.seek(place.offset)
    end = place.offset + place.size
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            _require_size(entry)
            path = PurePosixPath(entry.name)
            if not entry.isreg() or entry.issparse() or is_ignored_path(entry.name):
                continue
            found = Member(place.archive, f"{place.name}{entry.name}", entry.offset_data, entry.size)
            if found.offset + found.size > end:
                raise tarfile.ReadError(f"{found.name} reaches beyond its end")
            if path.suffix.lower() == ".tar":
                yield from _images_in(file, found._replace(name=f"{found.name}:"), path.stem)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                if not (path.parent.name or class_name):
                    raise RecNextError(
                        f"{place.archive} holds {found.name} in no class folder: expected <class>/<name>"
                    )
                yield path.parent.name or class_name, found
        file.seek(archive.offset)  # type: ignore[attr-defined]
        if file.tell() >= end or file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes this for the end
            raise tarfile.ReadError(f"no end of archive at byte {archive.offset}")  # type: ignore[attr-defined]


def _require_size(entry: tarfile.TarInfo) -> None:
    if entry.size < 0:  # tarfile goes backwards by it, and round in circles
        raise tarfile.ReadError(f"{entry.name} has a negative size")


class TarShards(StreamSource):
    """Tar files of ``<key>.jpg`` and ``<key>.cls`` pairs, in a folder or behind an http(s) address.

    Args:
        root: folder or address that holds the files and ``_info.json``.
        split: "train" or "val" ("validation" is taken for it).

    Raises:
        RecNextError: there is no such index or split, or it names files outside of `root`.
    """

    def __init__(self, root: str, *, split: str) -> None:
        info = _read_index(root)
        wanted = ("train",) if split == "train" else VALIDATION
        name = next((name for name in wanted if isinstance(info["splits"].get(name), dict)), None)
        if name is None:
            raise RecNextError(f"{root}/{INDEX} lists no split {' or '.join(wanted)}")
        names = info.get("class_names")
        if not names or not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise RecNextError(f"{root}/{INDEX} has no 'class_names', a list in the order of the labels: add it")
        images, self.files, self.lengths = _shards_of(info["splits"][name], root)
        super().__init__(images=images, shards=len(self.files), class_names=names, root=f"{root} ({name})")

    def records(self, shard: int) -> Iterator[Record]:
        """The records of one tar file, which ends with a problem where it holds fewer than the index says."""
        number = 0
        for record in read_tar(self.files[shard]):
            number += 1
            yield record
        if self.lengths and number < self.lengths[shard]:
            ends = f"the shard ends after {number} of {self.lengths[shard]} images: it is cut off, or {INDEX} is old"
            yield Record(self.files[shard], None, -1, ends)


def _read_index(root: str) -> dict[str, Any]:
    place = f"{root}/{INDEX}"
    if Path(root).is_dir() and not Path(place).is_file():
        raise RecNextError(f"{root} has no {INDEX}, which names and counts the shards: recnext data index {root}")
    fix = "write it again with 'recnext data index'"
    try:
        info = json.loads(download(place).read()) if is_url(place) else read_json(Path(place))
    except DownloadError as error:
        raise RecNextError(f"cannot read {place}: {error}") from None
    except RecNextError:
        raise
    except (ValueError, RecursionError):
        raise RecNextError(f"{place} is not valid JSON: {fix}") from None
    if not isinstance(info, dict) or not isinstance(info.get("splits"), dict):
        raise RecNextError(f"{place} has no 'splits': {fix}")
    return info


def _shards_of(split: Mapping[str, Any], root: str) -> tuple[int, list[str], list[int]]:
    """Images, the places of the tar files, none of which may lie outside of `root`, and their lengths if listed."""
    files, lengths = split.get("filenames"), split.get("shard_lengths")
    images: Any = split.get("num_samples")
    if not _is_count(images) or not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise RecNextError(f"{root}/{INDEX} has no 'filenames' and 'num_samples' of a split: recnext data index {root}")
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or Path(file).is_absolute() or ".." in path.parts or ":" in file:
            raise RecNextError(f"{root}/{INDEX} names {file!r}: expected tar files in {root} itself")
    known = isinstance(lengths, list) and len(lengths) == len(files) and all(map(_is_count, lengths))
    return images, [f"{root}/{file}" for file in files], lengths if known and lengths else []


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def read_tar(place: str) -> Iterator[Record]:
    """The records of one tar file; where it is damaged or cannot be opened, a last one says so."""
    try:
        with (
            closing(open_stream(place) if is_url(place) else Path(place).open("rb")) as file,
            tarfile.open(fileobj=file, mode="r|*") as archive,
        ):
            yield from _records(archive, place)
    except Exception as error:  # tarfile, its decompressors and the network raise errors of many kinds
        reason = getattr(error, "strerror", None) or reason_of(error)
        yield Record(place, None, -1, f"the shard ends here: {reason}")


def _records(archive: tarfile.TarFile, place: str) -> Iterator[Record]:
    """One a key; neighbours belong together where one's name, its ending cut off, begins the others'."""
    root = ""
    group: dict[str, dict[str, bytes]] = {}
    for entry in archive:
        archive.members = []  # type: ignore[attr-defined]
        _require_size(entry)
        key, _, suffix = entry.name.rpartition(".")
        if not entry.isreg() or not key or is_ignored_path(entry.name) or _META.match(entry.name):
            continue
        if key != root and not key.startswith(f"{root}."):
            yield from _records_of(group, root, place)
            root, group = key, {}
        kind = "cls" if suffix.lower() == "cls" else "image" if f".{suffix.lower()}" in IMAGE_SUFFIXES else ""
        parts = group.setdefault(key, {})
        if kind in parts:
            raise RecNextError(f"{entry.name} is there twice")
        content = archive.extractfile(entry) if kind and entry.size <= MAX_RECORD_BYTES else None
        if kind:
            parts[kind] = content.read() if content else b""
    yield from _records_of(group, root, place)


def _records_of(group: Mapping[str, Mapping[str, bytes]], root: str, place: str) -> Iterator[Record]:
    """The records of neighbours: further images, such as masks, of one that has its label are left out."""
    complete = {"image", "cls"} <= group.get(root, {}).keys()
    for key, parts in group.items():
        if key == root or (parts and not (complete and "cls" not in parts)):
            yield _record(parts, f"{place}:{key}")


def _record(parts: Mapping[str, bytes], name: str) -> Record:
    if "image" not in parts:
        return Record(name, None, -1, "no .jpg, .png or .webp in the shard")
    if not parts["image"]:
        return Record(name, None, -1, f"empty, or larger than {MAX_RECORD_BYTES // 2**20} MiB")
    if "cls" not in parts:
        return Record(name, parts["image"], -1, "no .cls with it")
    label = parts["cls"].strip()
    if not label.isdigit() or len(label) > 9:
        return Record(name, parts["image"], -1, f"its .cls holds {label[:20]!r}: expected the number of a class")
    return Record(name, parts["image"], int(label))


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
    found = list(walk(str(root), Survey(), suffixes=(".tar",))) if root.is_dir() else []
    training = [path for path in found if "train" in Path(path).name]
    validation = [path for path in found if "val" in Path(path).name and path not in training]
    for split, files in (("train", training), ("validation", validation)):
        if not files:
            continue
        labels = [[record.label for record in _undamaged(read_tar(file))] for file in files]
        lengths = [len(part) for part in labels]
        largest = max([largest, *(label for part in labels for label in part)])
        splits[split] = {
            "name": split,
            "num_samples": sum(lengths),
            "filenames": [Path(file).relative_to(root).as_posix() for file in files],
            "shard_lengths": lengths,
        }
    if not splits:
        raise RecNextError(f"{root} holds no shards: expected files such as train-0000.tar and val-0000.tar")
    if class_names and largest >= len(class_names):
        raise RecNextError(f"{root} has labels up to {largest}, but {len(class_names)} class names are given")
    names = list(class_names) or [str(label) for label in range(largest + 1)]
    write_atomically(root / INDEX, to_json({"splits": splits, "class_names": names}, indent=1).encode())
    return {name: (len(split["filenames"]), split["num_samples"]) for name, split in splits.items()}


def _undamaged(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if record.problem:
            raise RecNextError(f"{record.name}: {record.problem}")
        yield record
