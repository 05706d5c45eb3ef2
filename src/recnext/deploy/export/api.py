"""The whole of an export in one call: what `recnext export` does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

from torch import nn

from recnext.errors import RecNextError

from .accuracy import CALIBRATION, calibration_batches, judge_on
from .job import export_to, require_place
from .network import described
from .report import Exported
from .request import check_request
from .spec import ExportSpec
from .targets import Target, targets


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
        progress: told what is being made.
        overwrite: replace files of the same names that have no proof, so that they were not exported before.
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
    jobs: dict[tuple[str, str], tuple[Target, ExportSpec]] = {}
    for precision in precisions:
        asked = replace(spec, precision=precision, calibration=batches if precision == "int8" else ())
        for target in chosen:
            possible = target.possible(asked)
            target.check(possible)
            jobs[target.name, possible.precision] = target, possible
    for target, possible in jobs.values():
        require_place(output / f"{possible.stem}{target.suffix}", overwrite=overwrite)
    made: list[Exported] = []
    for target, possible in jobs.values():
        progress(f"{target.name} {possible.precision}")
        judged = None if judge is None else judge(possible)
        try:
            made.append(export_to(target, network, possible, output, threads=threads, judge=judged))
        except RecNextError as error:
            kept = ", ".join(item.path.name for item in made if not item.problem)
            if not kept:
                raise
            raise RecNextError(f"{error}; made before, in {output}: {kept}") from error
    return made
