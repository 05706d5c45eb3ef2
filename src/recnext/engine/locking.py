"""A lock on a file, which ends with the process that holds it, however that ends."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recnext.errors import RecNextError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


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
    with path.open("a+b") as file:
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
