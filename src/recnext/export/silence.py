"""Converters for phones log every step, draw progress bars and warn of libraries they were not tested with."""

import contextlib
import io
import logging
from collections.abc import Iterator

from recnext.backends.export import quiet


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """While active, nothing is printed, warned of or logged but errors; what a converter raises passes."""
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
