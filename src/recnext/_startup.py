"""Tells whether Python is starting the `recnext` command, which must answer `--help` without importing torch."""

import sys
from pathlib import PurePath


def is_command() -> bool:
    """True in a process started as ``recnext ...`` or ``python -m recnext ...``."""
    if PurePath(sys.argv[0] if sys.argv else "").name.lower() in ("recnext", "recnext.exe"):
        return True
    arguments = sys.orig_argv
    return any(pair == ("-m", "recnext") for pair in zip(arguments, arguments[1:], strict=False))
