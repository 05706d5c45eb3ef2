"""Which files of a folder are images, for every command alike: one rule for names, links and endings."""

import glob
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Optional, Union

from recnext.errors import RecNextError

from .download import is_url
from .images import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES

_LOG = logging.getLogger("recnext")
_IGNORED = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found"}
_IGNORED |= {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"}


def is_ignored(name: str) -> bool:
    """Whether a file or folder is an operating system's and no part of the data: hidden, ``__MACOSX``, ``@eaDir``."""
    return name.startswith(".") or name.lower() in _IGNORED


def is_ignored_path(path: str) -> bool:
    """Whether a part of a relative path with slashes, as archives have them, is ignored."""
    return any(is_ignored(part) for part in PurePosixPath(path).parts)


def as_composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared: macOS writes accents decomposed."""
    return unicodedata.normalize("NFC", name)


@dataclass
class Survey:
    """What a walk through folders passed, images left out.

    Attributes:
        ignored: files and folders of operating systems, by name, hidden ones as ``.*`` and ``._*``.
        others: files that are no images to `recnext`, by ending.
        links: links to folders.
        loops: those that lead back to a folder above them, which were not followed.
    """

    ignored: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)

    def ignore(self, name: str) -> None:
        """Counts a file or folder that is ignored."""
        self.ignored["._*" if name.startswith("._") else ".*" if name.startswith(".") else name] += 1

    @property
    def unread(self) -> str:
        """The images among the others in words, such as "3 .heic"; "" without any."""
        return ", ".join(f"{self.others[kind]} {kind}" for kind in OTHER_IMAGE_SUFFIXES if self.others[kind])

    def warn(self, place: object) -> None:
        """Says in a line each what a user may miss: images that cannot be read here, links in a circle."""
        if self.unread:
            _LOG.warning("%s: image files left out, which cannot be read here: %s", place, self.unread)
        if self.loops:
            first, count = self.loops[0], len(self.loops)
            _LOG.warning("%s: %d links left out that lead back to a folder above, %s first", place, count, first)


def walk(
    folder: str,
    survey: Survey,
    *,
    suffixes: Optional[Collection[str]] = IMAGE_SUFFIXES,
    _above: Optional[frozenset[tuple[int, int]]] = None,
) -> Iterator[str]:
    """The images in a folder and below, in the order of names, a folder's own before those below.

    Links are followed, but for those to a folder above. A link to nothing is listed, for its reader to report.

    Args:
        folder: to walk through.
        survey: counts what is left out.
        suffixes: endings of names, in lower case; None takes any file.

    Raises:
        OSError: a folder cannot be read.
    """
    above = _folders_above(folder) if _above is None else _above
    here = _identity(folder)
    if here in above:
        survey.loops.append(folder)
        return
    folders = []
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        suffix = os.path.splitext(entry.name)[1].lower()
        if is_ignored(entry.name):
            survey.ignore(entry.name)
        elif os.path.isdir(entry.path):
            folders.append(entry.path)
            if entry.is_symlink():
                survey.links.append(entry.path)
        elif (suffixes is None or suffix in suffixes) and (entry.is_symlink() or entry.is_file()):
            yield entry.path
        else:
            survey.others[suffix] += 1
    for path in folders:
        yield from walk(path, survey, suffixes=suffixes, _above=above | {here})


def _identity(folder: Union[str, Path]) -> tuple[int, int]:
    """What a folder is, whatever path leads to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _folders_above(folder: str) -> frozenset[tuple[int, int]]:
    """Those that a path goes through, and those that the folder lies in where it is reached by a link."""
    paths = (Path(os.path.abspath(folder)), Path(folder).resolve())
    return frozenset(_identity(parent) for path in paths for parent in path.parents)


def find_images(inputs: Sequence[str]) -> Iterator[str]:
    """The images that `inputs` stand for, in order.

    Args:
        inputs: files (of any ending), folders (searched to any depth), patterns with ``*``, ``?`` or ``[`` (``**``
            for any depth), and http or https addresses.

    Yields:
        Paths and addresses. A file that does not exist is among them, for the reader to report.

    Raises:
        RecNextError: there is nothing at all; before the first image.
    """
    if not inputs:
        raise RecNextError("no images are given: expected files, folders, patterns or addresses")
    survey = Survey()
    found = _all_images(inputs, survey)
    first = next(found, None)
    if first is None:
        raise RecNextError(f"no images in {', '.join(inputs)}: {expected_files(survey)}")
    missing = [name for name in inputs if not is_url(name) and not glob.has_magic(name) and not os.path.exists(name)]
    if len(missing) == len(inputs):
        raise RecNextError(f"there is no file or folder {', '.join(missing)}")
    return _chain(first, found, survey, ", ".join(inputs))


def count_images(inputs: Sequence[str]) -> int:
    """How many images `find_images` finds."""
    return sum(1 for _ in _all_images(inputs, Survey()))


def expected_files(survey: Survey) -> str:
    """What files were looked for, and which images were there instead, for an error."""
    there = f"{survey.unread} files cannot be read here, " if survey.unread else ""
    return f"{there}expected files that end in {' '.join(IMAGE_SUFFIXES)}"


def find_file(folder: Path, name: str) -> Path:
    """A file that a list names, in the form of Unicode in which the folder has it."""
    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((folder / form for form in (name, *forms) if os.path.isfile(folder / form)), folder / name)


def _chain(first: str, others: Iterator[str], survey: Survey, place: str) -> Iterator[str]:
    yield first
    yield from others
    survey.warn(place)


def _all_images(inputs: Sequence[str], survey: Survey) -> Iterator[str]:
    for name in inputs:
        if is_url(name):
            yield name
        elif os.path.isdir(name):
            yield from walk(name, survey)
        elif glob.has_magic(name) and not os.path.exists(name):
            yield from _matches(name)
        else:
            yield name


def _matches(pattern: str) -> Iterator[str]:
    """The files of a pattern in the order of names; ``**`` walks as `walk` does, which ends where links go round."""
    wanted = Path(pattern).parts
    base = list(takewhile(lambda part: not glob.has_magic(part), wanted))
    if "**" in wanted:
        below = walk(str(Path(*base)), Survey(), suffixes=None) if Path(*base).is_dir() else ()
        yield from sorted(path for path in below if _fits(Path(path).parts[len(base) :], wanted[len(base) :]))
        return
    for match in sorted(glob.iglob(pattern)):
        if os.path.isfile(match) and not any(is_ignored(part) for part in Path(match).parts if part not in wanted):
            yield match


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the parts of a path are those of a pattern."""
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    if wanted[0] == "**":
        return any(_fits(parts[count:], wanted[1:]) for count in range(len(parts) + 1))
    return fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])
