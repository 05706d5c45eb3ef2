"""Accuracy before and after an export, and the images that int8 is calibrated on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recnext.data import ImagePreparation, normalise
from recnext.data.images import open_image
from recnext.data.listing import find_images
from recnext.errors import RecNextError
from recnext.tasks.classification.data import open_for
from recnext.tasks.classification.evaluate import evaluate_classifier

from .files import AsNetwork
from .job import Judge
from .report import Judgement
from .spec import ExportSpec
from .targets import FileRunner

CALIBRATION = 256
"""Images, evenly taken from all that there are."""


def preparation_of(spec: ExportSpec) -> ImagePreparation:
    """How images are prepared for a file."""
    return ImagePreparation(
        size=spec.size, mean=spec.mean, std=spec.std, crop_pct=spec.crop_pct, interpolation=spec.interpolation
    )


def calibration_batches(folder: Path, spec: ExportSpec, *, images: int = CALIBRATION) -> list[np.ndarray]:
    """Images of a folder, at any depth, in the form of the file's input, in batches of `spec.batch`.

    Args:
        folder: of images; their classes do not matter.
        spec: what is to be made.
        images: how many to take at most.

    Raises:
        RecNextError: no images there, too few for one batch, or one that cannot be read.
    """
    found = find_images([str(folder)])
    paths = list(found)
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(images, len(paths))).round().astype(int))]
    if len(chosen) < spec.batch:
        raise RecNextError(f"{folder} holds {len(chosen)} images: a batch of {spec.batch} is to be calibrated on")
    transform = preparation_of(spec).evaluation_transform()
    pixels = torch.stack([transform(open_image(path, grey=spec.channels == 1)) for path in chosen])
    batches = []
    for begin in range(0, len(chosen) - spec.batch + 1, spec.batch):
        part = pixels[begin : begin + spec.batch]
        if spec.preprocess:
            batches.append(part.permute(0, 2, 3, 1).contiguous().numpy())
        else:
            tensor = normalise(part, mean=spec.mean, std=spec.std, device=torch.device("cpu"), channels_last=False)
            batches.append(tensor.numpy())
    return batches


def judge_on(
    network: nn.Module,
    folder: Path,
    *,
    limit: float,
    source: str = "the network",
) -> Callable[[ExportSpec], Judge]:
    """Measures a network's top-1 on labelled images once, and then that of each file.

    Args:
        network: the original, from `recnext.load`.
        folder: of class folders, or with ``val`` in it.
        limit: largest loss, in points.
        source: the network's name, for errors.

    Returns:
        From a spec to what `export_to` takes.

    Raises:
        RecNextError: the folders are not the network's classes; when it is called.
    """
    images = open_for(network, folder, checkpoint=source)
    before: dict[tuple[int, int], float] = {}

    def top1(forward: Callable[[Tensor], Tensor], spec: ExportSpec) -> float:
        found = evaluate_classifier(
            forward,
            images,
            preparation=preparation_of(spec),
            device=torch.device("cpu"),
            workers=0,
        )
        return found.top1

    def for_spec(spec: ExportSpec) -> Judge:
        def judge(run: FileRunner) -> Judgement:
            if spec.size not in before:
                before[spec.size] = top1(network.eval().float().cpu(), spec)
            batch = None if spec.dynamic_batch else spec.batch
            after = top1(AsNetwork(run, spec, batch=batch), spec)
            return Judgement(len(images), before[spec.size], after, limit)

        return judge

    return for_spec
