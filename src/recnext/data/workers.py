"""Processes that load images."""

import os
import signal
import warnings


def start_worker(_: int) -> None:
    """A terminal's Ctrl-C, or a signal to the process group, is for the main process alone to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    warnings.filterwarnings("ignore", module="PIL")  # oddities of EXIF data, one line an image
