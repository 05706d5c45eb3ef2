"""Processes that load images."""

import os
import signal
import warnings
from contextlib import suppress
from typing import Optional


def start_worker(_: int) -> None:
    """A terminal's Ctrl-C, or a signal to the process group, is for the main process alone to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    warnings.filterwarnings("ignore", module="PIL")  # oddities of EXIF data, one line an image


def explain_worker(error: Exception) -> Optional[str]:
    """What happened to a loading process, in words; None where the error is of something else.

    Args:
        error: raised while batches were loaded; PyTorch may raise it in the midst of other work.
    """
    gone = isinstance(error, (ConnectionResetError, ConnectionRefusedError, EOFError))  # while it handed a batch over
    if not gone and not str(error).startswith(("DataLoader worker", "Pin memory thread")):
        return None
    with suppress(AttributeError, ValueError):  # Windows; not the main thread
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise again as the loader is cleared up
    shared = "shared memory (/dev/shm) ran out" if "bus error" in str(error).lower() else "did memory run out?"
    return f"a process that loads images was killed ({shared}): fewer --workers, or a smaller --batch-size, need less"
