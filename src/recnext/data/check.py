"""A look through a data set before training: what cannot be read, how many of each class, what is there twice."""

import hashlib
import io
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Optional

from torchvision.datasets.folder import IMG_EXTENSIONS

from recnext.errors import RecNextError

from .folders import ImageFiles, find_class_names
from .images import UnreadableImageError, read_image
from .sources import kind_of, open_split

_AHEAD = 64  # files on their way at once


@dataclass(frozen=True)
class Listed:
    """An image file as it is listed: its split and class."""

    split: str
    class_name: str
    path: str


@dataclass
class DataReport:
    """What `check_data` found.

    Args:
        source: the data set.
        class_sizes: images of each class in each split.
        unreadable: (file, reason).
        across: groups of files of equal content in more than one split.
        within: groups of files of equal content in one split.
        conflicting: groups of files of equal content in more than one class.
        near_empty: (split, class, images) of classes below the limit.
        mistakes: of the layout, such as classes that only one split has.
    """

    source: str
    class_sizes: dict[str, dict[str, int]]
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    across: list[list[str]] = field(default_factory=list)
    within: list[list[str]] = field(default_factory=list)
    conflicting: list[list[str]] = field(default_factory=list)
    near_empty: list[tuple[str, str, int]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether training or the accuracy would suffer: damage, a wrong layout, an image in two splits or classes."""
        return bool(self.unreadable or self.across or self.conflicting or self.mistakes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "source": self.source,
            "images": {split: sum(sizes.values()) for split, sizes in self.class_sizes.items()},
            "class_sizes": self.class_sizes,
            "unreadable": [{"file": file, "reason": reason} for file, reason in self.unreadable],
            "duplicates_across_splits": self.across,
            "duplicates_within_a_split": self.within,
            "duplicates_in_different_classes": self.conflicting,
            "near_empty_classes": [
                {"split": split, "class": name, "images": images} for split, name, images in self.near_empty
            ],
            "mistakes": self.mistakes,
            "errors": self.has_errors,
        }


def list_images(spec: str) -> tuple[list[Listed], list[str]]:
    """The image files of a data set, and mistakes of its layout.

    Args:
        spec: a folder with train and val, or class folders alone, or a kind of `open_dataset` that keeps files.

    Raises:
        RecNextError: there is nothing, or the kind keeps its images in other files.
    """
    kind, place = kind_of(spec)
    if kind:
        listed = []
        for split in ("train", "val"):
            images = open_split(spec, split=split)
            if not isinstance(images, ImageFiles):
                raise RecNextError(f"{spec} keeps its images inside other files: 'data check' looks through folders")
            listed += [Listed(split, images.class_names[label], path) for path, label in images.samples]
        return listed, []
    root = Path(place)
    splits = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    if not splits:
        return _class_folders(root, ""), []
    listed = [entry for split in splits for entry in _class_folders(root / split, split)]
    return listed, _layout_mistakes(root, splits)


def check_data(
    listed: Sequence[Listed],
    *,
    source: str,
    mistakes: Sequence[str] = (),
    few: int = 10,
    workers: Optional[int] = None,
    on_file: Callable[[], None] = lambda: None,
) -> DataReport:
    """Reads and decodes every file.

    Args:
        listed: from `list_images`.
        source: name of the data set, for the report.
        mistakes: from `list_images`.
        few: classes with fewer training images are reported.
        workers: threads; by default as many as there are CPUs.
        on_file: called after each, for progress.
    """
    sizes: dict[str, Counter[str]] = {}
    by_content: dict[bytes, list[Listed]] = {}
    report = DataReport(source, {}, mistakes=list(mistakes))
    for entry, (digest, problem) in _looked_at(listed, workers or os.cpu_count() or 1):
        sizes.setdefault(entry.split, Counter())[entry.class_name] += 1
        if problem:
            report.unreadable.append((entry.path, problem))
        else:
            by_content.setdefault(digest, []).append(entry)
        on_file()
    report.class_sizes = {split: dict(sorted(counts.items())) for split, counts in sizes.items()}
    for group in by_content.values():
        if len(group) > 1:
            _sort_in(report, group)
    report.near_empty = [
        (split, name, images)
        for split, counts in report.class_sizes.items()
        for name, images in counts.items()
        if images < few and split in ("", "train")
    ]
    return report


def _sort_in(report: DataReport, group: list[Listed]) -> None:
    files = [entry.path for entry in group]
    if len({entry.class_name for entry in group}) > 1:
        report.conflicting.append(files)
    if len({entry.split for entry in group}) > 1:
        report.across.append(files)
    elif len({entry.class_name for entry in group}) == 1:
        report.within.append(files)


def _class_folders(root: Path, split: str) -> list[Listed]:
    names = find_class_names(root)
    return [
        Listed(split, name, str(path))
        for name in names
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in IMG_EXTENSIONS and path.is_file()
    ]


def _layout_mistakes(root: Path, splits: Sequence[str]) -> list[str]:
    mistakes = [f"{root} has no folder {name!r}" for name in ("train", "val") if name not in splits]
    classes = {split: set(find_class_names(root / split)) for split in splits}
    for split, names in classes.items():
        others = set().union(*(other for name, other in classes.items() if name != split))
        if len(classes) > 1 and names - others:
            mistakes.append(f"only {split} has the class{'es' * (len(names - others) > 1)} {_some(names - others)}")
        empty = {name for name in names if not any(_images_in(root / split / name))}
        if empty:
            mistakes.append(f"{split} has no images of {_some(empty)}")
    return mistakes


def _images_in(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)


def _looked_at(listed: Sequence[Listed], workers: int) -> Iterator[tuple[Listed, tuple[bytes, str]]]:
    """In order, a few files ahead, so that memory does not grow with the data."""
    remaining = iter(listed)
    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        waiting: deque[tuple[Listed, Future[tuple[bytes, str]]]] = deque()
        while True:
            for entry in islice(remaining, _AHEAD - len(waiting)):
                waiting.append((entry, pool.submit(_look_at, entry.path)))
            if not waiting:
                return
            entry, looked = waiting.popleft()
            yield entry, looked.result()


def _look_at(path: str) -> tuple[bytes, str]:
    """(hash of the content, why it cannot be read)."""
    try:
        content = Path(path).read_bytes()
        read_image(io.BytesIO(content))
    except OSError as error:
        return b"", error.strerror or str(error)
    except UnreadableImageError as error:
        return b"", str(error)
    return hashlib.blake2b(content, digest_size=16).digest(), ""


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
