"""The one exception for a user's mistake: the command line prints it as one line, without a traceback."""

from typing import Optional


class RecNextError(ValueError):
    """Bad input. The message names the value, what was expected and the fix, in one line."""


class MissingExtraError(RecNextError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'recnext[{extra}]'")


_IN_TRAIN = ("accelerate", "torchmetrics", "matplotlib", "jinja2", "sklearn")
"""Modules of the `train` extra, which training, evaluation, reports and pictures import at their top."""


def missing_extra(error: ModuleNotFoundError, *, purpose: str) -> Optional[MissingExtraError]:
    """The error that names the extra, where the module that was not found comes with `train`; None for any other."""
    module = (error.name or "").partition(".")[0]
    return MissingExtraError(module, "train", purpose) if module in _IN_TRAIN else None
