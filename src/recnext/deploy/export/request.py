"""What can be refused of a request before weights are read and files are made."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from recnext.errors import RecNextError

from .job import beside
from .spec import ExportSpec
from .targets import TARGETS, Target, target

_FLAGS = {"compression": "weights"}  # choices whose flag has another name


def check_request(
    chosen: Sequence[Target],
    output: Path,
    *,
    precisions: Sequence[str],
    calibrate: Optional[Path] = None,
    max_loss: float = 0.0,
    **choices: Any,
) -> None:
    """Refuses what no export could do, or what would be left unheeded.

    Args:
        chosen: targets.
        output: folder for the files; that it can be written is tried.
        precisions: as `recnext.deploy.export.export` takes them.
        calibrate: folder of images for int8.
        max_loss: largest loss of top-1, in points.
        **choices: fields of `ExportSpec`.

    Raises:
        MissingExtraError: a target's packages are not installed.
        RecNextError: a precision that a target does not have, int8 without images or images without int8, a choice
            that none of the targets reads.
        OSError: the folder cannot be written.
    """
    for one in chosen:
        one.require()
        one.check_precisions(precisions)
    counting = [one.name for one in chosen if "int8" in precisions and one.calibrated]
    if counting and calibrate is None:
        raise RecNextError(f"int8 for {counting[0]} needs images to calibrate on: add --calibrate FOLDER")
    if calibrate is not None and not counting:
        raise RecNextError(f"--calibrate {calibrate} is read for int8 only: add --precision int8, or leave it out")
    if not max_loss >= 0:
        raise RecNextError(f"--max-loss is {max_loss:g}: expected 0 or more points")
    defaults = {field.name: field.default for field in fields(ExportSpec)}
    names = [one.name for one in chosen]
    for name, value in choices.items():
        if value is None or value == defaults.get(name):
            continue
        readers = [each for each in TARGETS if name in target(each).choices]
        if readers and not set(readers) & set(names):
            flag = f"--{_FLAGS.get(name, name)} {value}"
            raise RecNextError(f"{flag} is for {', '.join(readers)} only, not {', '.join(names)}: leave it out")
    with beside(output):
        pass
