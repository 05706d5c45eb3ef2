"""A look through a data set before training: what cannot be read, how many of each class, what is there twice."""

import hashlib
import io
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Optional

from recnext.errors import RecNextError

from .folders import class_folders, split_names
from .images import UnreadableImageError, read_image
from .labelled import ImageFiles, listed
from .listing import Survey, is_ignored, walk
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
        survey: files and links that were left out or followed.
    """

    source: str
    class_sizes: dict[str, dict[str, int]]
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    across: list[list[str]] = field(default_factory=list)
    within: list[list[str]] = field(default_factory=list)
    conflicting: list[list[str]] = field(default_factory=list)
    near_empty: list[tuple[str, str, int]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    survey: Survey = field(default_factory=Survey)

    @property
    def has_errors(self) -> bool:
        """Whether training would suffer: from damage, a wrong layout, or an image in two classes."""
        return bool(self.unreadable or self.conflicting or self.mistakes)

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
            "ignored": dict(sorted(self.survey.ignored.items())),
            "other_files": dict(sorted(self.survey.others.items())),
            "links": self.survey.links,
            "links_in_a_circle": self.survey.loops,
            "errors": self.has_errors,
        }


@dataclass(frozen=True)
class Listing:
    """What `list_images` found.

    Args:
        files: the images.
        mistakes: of the layout.
        survey: what was left out.
    """

    files: list[Listed]
    mistakes: list[str] = field(default_factory=list)
    survey: Survey = field(default_factory=Survey)


def list_images(spec: str) -> Listing:
    """The image files of a data set, and mistakes of its layout.

    Args:
        spec: a folder with train and val, or class folders alone, or a kind of `open_dataset` that keeps files.

    Raises:
        RecNextError: there is nothing, or the kind keeps its images in other files.
    """
    kind, place = kind_of(spec)
    if kind:
        files = []
        for split in ("train", "val"):
            images = open_split(spec, split=split)
            if not isinstance(images, ImageFiles):
                raise RecNextError(f"{spec} keeps its images inside other files: 'data check' looks through folders")
            named = zip(images.paths, images.labels, strict=True)
            files += [Listed(split, images.class_names[label], path) for path, label in named]
        return Listing(files)
    root, survey = Path(place), Survey()
    splits = split_names(root) if root.is_dir() else []
    trees = {split: class_folders(root / split) for split in splits} or {"": class_folders(root)}
    for entry in (entry for split in trees for entry in (root / split).iterdir()):
        if is_ignored(entry.name):
            survey.ignore(entry.name)
        elif entry.is_dir() and entry.is_symlink():
            survey.links.append(str(entry))
    files = [
        Listed(split, name, path)
        for split, folders in trees.items()
        for name, folder in folders.items()
        for path in walk(str(folder), survey)
    ]
    return Listing(files, _layout_mistakes(root, trees, files) if splits else [], survey)


def check_data(
    listing: Listing,
    *,
    source: str,
    few: int = 10,
    workers: Optional[int] = None,
    on_file: Callable[[], None] = lambda: None,
) -> DataReport:
    """Reads and decodes every file.

    Args:
        listing: from `list_images`.
        source: name of the data set, for the report.
        few: classes with fewer training images are reported.
        workers: threads; by default as many as there are CPUs.
        on_file: called after each, for progress.
    """
    sizes: dict[str, Counter[str]] = {}
    by_content: dict[bytes, list[Listed]] = {}
    report = DataReport(source, {}, mistakes=listing.mistakes, survey=listing.survey)
    for entry, (digest, problem) in _looked_at(listing.files, workers or os.cpu_count() or 1):
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


def _layout_mistakes(root: Path, trees: Mapping[str, Collection[str]], files: Sequence[Listed]) -> list[str]:
    mistakes = [f"{root} has no folder {name!r}" for name in ("train", "val") if name not in trees]
    filled = {(entry.split, entry.class_name) for entry in files}
    for split, names in trees.items():
        others = set().union(*(other for name, other in trees.items() if name != split))
        only = sorted(set(names) - others)
        if len(trees) > 1 and only:
            mistakes.append(f"only {split} has the class{'es' * (len(only) > 1)} {listed(only)}")
        empty = [name for name in names if (split, name) not in filled]
        if empty:
            mistakes.append(f"{split} has no images of {listed(empty)}")
    return mistakes


def _looked_at(files: Sequence[Listed], workers: int) -> Iterator[tuple[Listed, tuple[bytes, str]]]:
    """In order, a few files ahead, so that memory does not grow with the data."""
    remaining = iter(files)
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
