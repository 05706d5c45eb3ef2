"""Tells whether Python is starting the `recnext` command, whose `--help` must answer without torch."""

import sys
from itertools import pairwise
from pathlib import PurePath


def is_command() -> bool:
    """True in a process started as ``recnext ...`` or ``python -m recnext ...``."""
    if PurePath(sys.argv[0] if sys.argv else "").name.lower() in ("recnext", "recnext.exe"):
        return True
    return ("-m", "recnext") in pairwise(sys.orig_argv)
