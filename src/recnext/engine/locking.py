"""A lock on a file, which ends with the process that holds it, however that ends."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from recnext.errors import RecNextError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)

_HELD: set[IO[bytes]] = set()


def _let_go() -> None:
    """Closes in a forked process, a loading one for example, the locks that its parent holds: it may live longer."""
    while _HELD:
        _HELD.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def _kept_from_children(file: IO[bytes]) -> Iterator[None]:
    _HELD.add(file)
    try:
        yield
    finally:
        _HELD.discard(file)


@contextmanager
def locked(path: Path, *, what: str) -> Iterator[None]:
    """Holds the lock of a file, which is made where missing and stays.

    Args:
        path: of the file.
        what: is locked, in words, for the error.

    Raises:
        RecNextError: another process holds it.
        OSError: the file cannot be written.
    """
    with path.open("a+b") as file, _kept_from_children(file):
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN:  # a file system without locks
                yield
                return
            raise RecNextError(f"another process is writing {what}: wait for it, or choose another --output") from None
        yield
