"""Exporters and converters log every step, draw progress bars and warn of versions they were not tested with."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "nncf")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While active, the exporters keep their progress and warnings to themselves."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """While active, this process prints nothing, from C++ neither, and logs errors only; what is raised passes."""
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        with quiet(), _without_native_stderr(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def _without_native_stderr() -> Iterator[None]:
    """LiteRT writes past Python, to the descriptor itself."""
    try:
        kept = os.dup(2)
    except OSError:  # closed, as in a daemon
        yield
        return
    sys.stderr.flush()
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
