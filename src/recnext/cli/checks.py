"""Numbers given on the command line, checked before anything heavy is read."""

from pathlib import Path
from typing import Optional

from recnext.errors import RecNextError

SMALLEST_IMAGE = 32  # pixels a side: the networks' stride


def require_at_least(least: int, **values: Optional[int]) -> None:
    """Checks flags named as parameters are, ``batch_size`` for ``--batch-size``; None is a flag left out.

    Raises:
        RecNextError: one is smaller than `least`.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise RecNextError(f"--{name.replace('_', '-')} is {value}: expected an integer from {least}")


def require_folder(output: Optional[str]) -> None:
    """Checks that a folder can be at ``--output``; None is a flag left out.

    Raises:
        RecNextError: there is a file.
    """
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise RecNextError(f"{output} is a file: --output expects a folder")
