"""An export in one call, as `recnext export` makes it: refused before any work, or made and proved file by file."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

from torch import nn

from recnext.errors import RecNextError
from recnext.files import PathName

from .accuracy import CALIBRATION, calibration_batches, judge_on
from .job import export_to, require_place, temporary_in
from .network import Exportable, described
from .report import Exported
from .spec import ExportSpec
from .targets import TARGETS, Target, target, targets

_FLAGS = {"compression": "weights"}  # choices whose flag has another name


def export(
    network: nn.Module,
    output: Union[str, PathLike[str]],
    *,
    to: Union[str, Sequence[str]] = "onnx",
    precisions: Sequence[str] = ("fp32",),
    calibrate: Optional[Path] = None,
    images: int = CALIBRATION,
    validate: Optional[Path] = None,
    max_loss: float = 0.5,
    threads: Optional[int] = None,
    progress: Callable[[str], None] = lambda what: None,
    overwrite: bool = True,
    inputs: Sequence[PathName] = (),
    **choices: Any,
) -> list[Exported]:
    """Exports a network to every target in every precision, and proves each file.

    Everything that can be refused is refused before the first file is made.

    Args:
        network: of `recnext.load` or timm, also `features_only`, or any module that maps normalised float32
            (N, C, H, W) to a tensor or to a list, tuple or mapping of them.
        output: folder for the files, made where missing.
        to: a name of `recnext.deploy.export.TARGETS`, or several.
        precisions: "fp32", "fp16", "int8".
        calibrate: folder of images, of any classes, for int8.
        images: how many of them to take.
        validate: class folders, to measure top-1 before and after.
        max_loss: largest loss of top-1 there, in points.
        threads: CPU threads while a file is timed; by default its runtime's choice.
        progress: called with what is being made.
        overwrite: replace files of the same names that have no proof, so that they were not exported before.
        inputs: files that are never replaced, such as the network's weights.
        **choices: fields of `ExportSpec`, such as `size`, `preprocess` or `opset`, over what the network says.

    Returns:
        A file each; one whose `problem` is not empty was not kept.

    Raises:
        MissingExtraError: a format's packages are not installed.
        RecNextError: an unknown target, a choice that is wrong or that no target reads, or an exporter that fails.
        OSError: the folder cannot be written.
    """
    chosen = targets([to] if isinstance(to, str) else list(to))
    output = Path(output)
    check_request(chosen, output, precisions=precisions, calibrate=calibrate, max_loss=max_loss, **choices)
    spec = described(network, **choices)
    if validate is not None and not spec.classifier:
        raise RecNextError("accuracy cannot be measured on maps: leave --validate or --features out")
    judge = None if validate is None else judge_on(network, validate, limit=max_loss, source=spec.name)
    batches = [] if calibrate is None else calibration_batches(calibrate, spec, images=images)
    asked = [replace(spec, precision=one, calibration=batches if one == "int8" else ()) for one in precisions]
    jobs = _jobs(chosen, asked)
    for one, possible in jobs.values():
        require_place(one.path(possible, output), overwrite=overwrite, inputs=inputs)
    made: list[Exported] = []
    exportable = Exportable(network)
    for one, possible in jobs.values():
        progress(f"{one.name} {possible.precision}")
        judged = None if judge is None else judge(possible)
        try:
            made.append(export_to(one, exportable, possible, output, threads=threads, judge=judged))
        except RecNextError as error:
            kept = ", ".join(item.path.name for item in made if not item.problem)
            if not kept:
                raise
            raise RecNextError(f"{error}; made before, in {output}: {kept}") from error
    return made


def _jobs(chosen: Sequence[Target], asked: Sequence[ExportSpec]) -> dict[tuple[str, str], tuple[Target, ExportSpec]]:
    """What to make, each once, by target and precision; refused before any work where a target cannot do it."""
    jobs = {}
    for spec in asked:
        for one in chosen:
            possible = one.possible(spec)
            one.check(possible)
            jobs[one.name, possible.precision] = one, possible
    return jobs


def check_request(
    chosen: Sequence[Target],
    output: Path,
    *,
    precisions: Sequence[str],
    calibrate: Optional[Path] = None,
    max_loss: float = 0.0,
    **choices: Any,
) -> None:
    """Refuses what no export could do, or what would be left unheeded; arguments are as of `export`.

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
    with temporary_in(output):
        pass
