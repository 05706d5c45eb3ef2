"""`recnext predict`: the classes of images."""

import os
from pathlib import Path
from typing import Any, Optional

from torch import nn

from recnext.data.listing import count_images, find_images
from recnext.deploy.export.files import ExportedNetwork, is_exported
from recnext.deploy.optimize import forward_for
from recnext.engine.devices import choose_device
from recnext.errors import RecNextError
from recnext.files import require_output
from recnext.tasks.classification.predict import classify
from recnext.tasks.classification.prediction import COLUMNS, described
from recnext.tasks.classification.table import PredictionSettings

from .embed import write_table
from .predicting import print_results, report_unreadable
from .shared import progress_bar


def run(
    images: list[str],
    *,
    json: bool = False,
    output: Optional[Path] = None,
    trust: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> int:
    """Classifies images.

    Images that cannot be read are reported at the end and do not stop the others; then the exit status is 1.

    Args:
        images: files, folders (searched to any depth), patterns such as "photos/*.jpg", http(s) addresses.
        json: print a JSON list with an object for each image.
        output: CSV file to write, a line for each image and class; or .parquet, a row per image: then nothing is
            printed, images may be tar shards, several processes (torchrun) share them, and a killed run resumes.
        trust: open a .pt2 file, which can run any program on this machine.
        overwrite: replace files that this command did not write.
    """
    chosen = PredictionSettings(**settings)
    if output is not None:
        if output.suffix not in (".csv", ".parquet"):
            raise RecNextError(f"--output is {output}: expected a name ending in .csv or .parquet")
        require_output(output, overwrite=overwrite, mark=",".join(COLUMNS), inputs=images)
    if _is_exported(chosen):
        _require_plain(chosen, output)
    if output is not None and output.suffix == ".parquet":
        return write_table(chosen, images, output, overwrite=overwrite)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecNextError("several processes share the images only for --output FILE.parquet")
    found = find_images(images)
    network, forward = _open(chosen, trust=trust)
    results = classify(
        network,
        found,
        topk=chosen.topk,
        batch_size=chosen.batch_size,
        image_size=chosen.size,
        forward=forward,
        workers=chosen.workers,
    )
    with progress_bar() as progress:
        _, unreadable = print_results(described(results, table=output), progress, total=count_images(images), json=json)
    return report_unreadable(unreadable)


def _is_exported(settings: PredictionSettings) -> bool:
    return settings.model is not None and is_exported(settings.model)


def _open(settings: PredictionSettings, *, trust: bool) -> tuple[nn.Module, Any]:
    """The network, and what computes in its place."""
    device = choose_device(settings.device)
    if _is_exported(settings):
        file = ExportedNetwork(Path(str(settings.model)), trust=trust)
        return file, file
    network = settings.load(device)
    example = settings.example(network, device)
    return network, forward_for(network, example, backend=settings.backend, precision=settings.precision)


def _require_plain(settings: PredictionSettings, output: Optional[Path]) -> None:
    """Refuses what an exported file does not take."""
    model = settings.model
    chosen = (settings.checkpoint, settings.pretrained, settings.ema, settings.backend, settings.precision)
    if chosen != (None, False, False, "torch", "auto"):
        own = "--checkpoint, --pretrained, --ema, --backend and --precision"
        raise RecNextError(f"{model} has its own weights and runtime: leave {own} out")
    if output is not None and output.suffix == ".parquet":
        raise RecNextError(f"{output}: of an exported file the answers are written as .csv")
    if settings.device not in ("auto", "cpu"):
        raise RecNextError(f"{model} runs on the CPU here: leave --device {settings.device} out")
