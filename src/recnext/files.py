"""Writes files completely or not at all, and never over what the user did not mean to lose."""

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import IO, Optional, Union

from recnext.errors import RecNextError

MARK = "written by recnext"
"""Stands in the pictures, pages and videos that commands write: such a file may be replaced."""
_ENDS = 2**16  # bytes at both ends of a file in which its mark is looked for
_SPECIAL = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
_FILES = {".png", ".jpg", ".jpeg", ".csv", ".json", ".parquet", ".html", ".mp4", ".onnx", ".pt2", ".pt", ".safetensors"}

PathName = Union[str, PathLike[str]]


def require_output(
    path: PathName, *, overwrite: bool = False, mark: Optional[str] = MARK, inputs: Iterable[PathName] = ()
) -> Path:
    """Checks, before any work, that a command may write a file.

    Args:
        path: of the file.
        overwrite: whether a file or link that is there may be replaced; a device, pipe, folder or input never is.
        mark: text in what the command itself writes, which it may always replace; None if there is none.
        inputs: files that the command reads.

    Returns:
        The path.

    Raises:
        RecNextError: it may not, or there is no such folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise RecNextError(f"cannot write {path}: there is no folder {path.parent}")
    require_regular(path)
    if not os.path.lexists(path):
        return path
    if any(os.path.exists(name) and path.exists() and os.path.samefile(name, path) for name in inputs):
        raise RecNextError(f"{path} is read by this command, which will not replace it: give another output")
    if path.is_symlink() and not overwrite:
        raise RecNextError(f"{path} is a link to {os.readlink(path)}: give another output, or --overwrite the link")
    if not overwrite and not (mark and _has(path, mark.encode())):
        known = "exists and was not written by this command" if mark else "already exists"
        raise RecNextError(f"{path} {known}: give another output, or --overwrite it")
    return path


def require_outputs(
    folder: PathName,
    names: Iterable[str],
    *,
    overwrite: bool = False,
    mark: Optional[str] = MARK,
    inputs: Iterable[PathName] = (),
) -> None:
    """`require_output` of several files in a folder, which need not exist yet.

    Raises:
        RecNextError: there is a file in place of the folder, or one of the files may not be written.
    """
    require_folder(folder)
    folder = Path(folder)
    for name in names if folder.is_dir() else ():
        require_output(folder / name, overwrite=overwrite, mark=mark, inputs=inputs)


def require_folder(path: Optional[PathName]) -> None:
    """Checks that a folder is or can be at ``--output``; None is a flag left out.

    Raises:
        RecNextError: a file is there, or nothing, and the name is one of a file.
    """
    if path is None or os.path.isdir(path):
        return
    if os.path.lexists(path) or Path(path).suffix.lower() in _FILES:
        raise RecNextError(
            f"{path} is {'' if os.path.lexists(path) else 'the name of '}a file: --output expects a folder"
        )


def require_regular(path: Path) -> None:
    """Raises RecNextError where something other than a file, or a link, is at `path`."""
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        kind = next((kind for is_kind, kind in _SPECIAL.items() if is_kind(mode)), None)
        if kind or stat.S_ISDIR(mode):
            raise RecNextError(f"{path} is {kind or 'a folder'}, which is never replaced: give the name of a file")


def _has(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        start = file.read(_ENDS)
        file.seek(max(path.stat().st_size - _ENDS, 0))
        return mark in start or mark in file.read(_ENDS)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary file in the folder of `path`, flushes it to the disk and puts it in place.

    On any error, a full disk among them, `path` keeps its old content and the temporary file is removed.

    Raises:
        RecNextError: there is a device, a pipe or a folder at `path`.
        OSError: the disk is full, the folder is missing or not writable; `filename` is `path`.
    """
    require_regular(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files only their owner can read
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


@contextmanager
def open_atomically(path: Path, *, errors: str = "strict") -> Iterator[IO[str]]:
    """Opens a UTF-8 text file to write, line ends as given; it appears once all of it is written without an error.

    Args:
        path: of the file.
        errors: what becomes of text that has no UTF-8, as of `open`.

    Raises:
        RecNextError: there is a device, a pipe or a folder at `path`.
        OSError: the disk is full, the folder is missing or not writable.
    """
    require_regular(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors=errors) as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
