"""The whole of an export in one call: what `recnext export` does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

from torch import nn

from recnext.errors import RecNextError

from .accuracy import CALIBRATION, calibration_batches, judge_on
from .job import export_to
from .network import described
from .report import Exported
from .targets import targets


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
    **choices: Any,
) -> list[Exported]:
    """Exports a network to every target in every precision, and proves each file.

    Everything that can be refused is refused before the first file is made.

    Args:
        network: of `recnext.load` or timm, also `features_only`, or any module that maps normalised float32
            (N, C, H, W) to a tensor or to a list, tuple or mapping of them.
        output: folder for the files, made where missing.
        to: a name of `recnext.export.TARGETS`, or several.
        precisions: "fp32", "fp16", "int8".
        calibrate: folder of images, of any classes, for int8.
        images: how many of them to take.
        validate: class folders, to measure top-1 before and after.
        max_loss: largest loss of top-1 there, in points.
        threads: CPU threads while a file is timed; by default its runtime's choice.
        progress: told what is being made.
        **choices: fields of `ExportSpec`, such as `size`, `preprocess` or `opset`, over what the network says.

    Returns:
        A file each; one whose `problem` is not empty was not kept.

    Raises:
        MissingExtraError: a format's packages are not installed.
        RecNextError: an unknown target, a wrong choice, or an exporter that fails.
        OSError: the folder cannot be written.
    """
    chosen = targets([to] if isinstance(to, str) else list(to))
    if "int8" in precisions and calibrate is None:
        raise RecNextError("int8 needs images to calibrate on: give a folder, --calibrate FOLDER")
    for target in chosen:
        target.require()
    spec = described(network, **choices)
    if validate is not None and not spec.classifier:
        raise RecNextError("accuracy cannot be measured on maps: leave --validate or --features out")
    judge = None if validate is None else judge_on(network, validate, limit=max_loss, source=spec.name)
    batches = [] if calibrate is None else calibration_batches(calibrate, spec, images=images)
    jobs = []
    for precision in dict.fromkeys(precisions):
        asked = replace(spec, precision=precision, calibration=batches if precision == "int8" else ())
        jobs += [(target, target.possible(asked)) for target in chosen]
    for target, possible in jobs:
        target.check(possible)
    made = []
    for target, possible in jobs:
        progress(f"{target.name} {possible.precision}")
        judged = None if judge is None else judge(possible)
        made.append(export_to(target, network, possible, Path(output), threads=threads, judge=judged))
    return made
