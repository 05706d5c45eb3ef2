"""Converters for phones log every step, draw progress bars and warn of libraries they were not tested with."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator

from recnext.deploy.optimize.export import quiet


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """While active, this process prints nothing, from C++ neither, and logs errors only; what is raised passes."""
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        with quiet(), _native_stderr_away(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _native_stderr_away() -> Iterator[None]:
    """LiteRT writes past Python, to the descriptor itself."""
    try:
        kept = os.dup(2)
    except OSError:  # closed, as in a daemon
        yield
        return
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
