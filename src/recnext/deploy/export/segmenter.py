"""Segmenters as files for other runtimes, proved against the original."""

from dataclasses import replace
from pathlib import Path
from typing import Optional

from recnext.errors import RecNextError
from recnext.tasks.segmentation.model import SemanticFPN

from . import Exported, described, export_to
from . import target as find_target


def export(
    model: SemanticFPN,
    folder: Path,
    *,
    target: str = "onnx",
    size: Optional[tuple[int, int]] = None,
    precision: str = "fp32",
) -> Exported:
    """Writes the folded segmenter, normalised (N, 3, H, W) to logits at stride 4, to a file of another format.

    Enlarging the logits to the image and taking the largest is left to the caller. ONNX takes any batch, height and
    width. The file appears only once it gives the original's logits on several shapes.

    Args:
        model: of `load`; it stays as it is.
        folder: made where missing.
        target: format, as `recnext export` has it.
        size: height and width of the example, and of a static file; by default the training crop.
        precision: fp32 or fp16.

    Returns:
        The file, what is in it, and how far it is from the original.

    Raises:
        MissingExtraError: the format's packages are not installed.
        RecNextError: the format cannot do it, or the file is not what the model is.
    """
    spec = described(
        model,
        name=f"semantic_fpn_{model.pretrained_cfg['architecture']}",
        size=size or (model.image_size, model.image_size),
        interpolation="bilinear",
        crop_pct=1.0,
        precision=precision,
    )
    made = export_to(
        find_target(target), model, replace(spec, outputs=("logits",), class_names=model.class_names), folder
    )
    if made.problem:
        raise RecNextError(f"{made.path} was not written: {made.problem}")
    return made
