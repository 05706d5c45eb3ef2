"""How a process of the `recnext` command starts: without torch, for `--help`, and with streams that hold any text."""

import codecs
import logging
import os
import sys
import warnings
from itertools import pairwise
from pathlib import PurePath

from recnext.text import printable

_SPELLED = {"\N{RIGHTWARDS ARROW}": "->", "\N{HORIZONTAL ELLIPSIS}": "...", "\N{PLUS-MINUS SIGN}": "+-"}
_SPELLED |= {"\N{MIDDLE DOT}": "*", "\N{SUPERSCRIPT TWO}": "^2", "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-"}


def is_command() -> bool:
    """True in a process started as ``recnext ...`` or ``python -m recnext ...``."""
    if PurePath(sys.argv[0] if sys.argv else "").name.lower() in ("recnext", "recnext.exe"):
        return True
    return ("-m", "recnext") in pairwise(sys.orig_argv)


def prepare_process() -> None:
    """Makes stdout and stderr take what their encoding cannot hold, and keeps other packages' warnings from the user.

    Python's own switches still show the warnings: ``-W``, or ``PYTHONWARNINGS``.
    """
    codecs.register_error("recnext", _spelled)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for the life of the process)
        getattr(sys, name).reconfigure(errors="recnext")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # of the processes that load images
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("recnext: %(message)s"))
    handler.addFilter(lambda record: record.name.partition(".")[0] == "recnext" or record.levelno >= logging.ERROR)
    logging.getLogger().addHandler(handler)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(" ".join(super().format(record).split()))


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Spells what an encoding lacks in ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_SPELLED.get(one) or ascii(one)[1:-1] for one in lacking), error.end
