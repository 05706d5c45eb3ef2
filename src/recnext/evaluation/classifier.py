"""A classifier, from any checkpoint, on class folders."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from recnext.data import Batch, ClassFolder, ImagePreparation, make_loader
from recnext.data.folders import evaluation_root, find_class_names
from recnext.data.sampling import EvaluationBatches
from recnext.errors import RecNextError

from .accuracy import Accuracy, evaluate

_SHOWN = 5


def preparation_of(model: nn.Module, *, image_size: Optional[int] = None) -> ImagePreparation:
    """How a network's checkpoint says images are to be prepared.

    Args:
        model: from `recnext.load`.
        image_size: another side of the square input than the checkpoint's, in pixels.

    Raises:
        RecNextError: the network takes other images than RGB ones.
    """
    config: dict[str, Any] = resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    if channels != 3:
        raise RecNextError(
            f"this network takes images of {channels} channel{'s' * (channels > 1)}, class folders hold RGB ones: "
            "take weights for 3 channels"
        )
    size = (height, width) if image_size is None else (image_size, image_size)
    return ImagePreparation(
        size=size,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
    )


def open_for(model: nn.Module, data: Path, *, checkpoint: str) -> ClassFolder:
    """The images in `data` (its ``val``, or itself) with the labels that the network gives them.

    Labels go by the class names in the checkpoint; where it has none, by the sorted order of the folders.

    Args:
        model: from `recnext.load`.
        data: root of class folders.
        checkpoint: its name, for errors.

    Raises:
        RecNextError: the folders are not the network's classes, or hold no images.
    """
    root = evaluation_root(data)
    folders = find_class_names(root)
    classes: int = model.num_classes  # type: ignore[assignment]
    known: Sequence[str] = getattr(model, "pretrained_cfg", {}).get("label_names") or ()
    if set(folders) <= set(known):
        return ClassFolder(root, class_names=tuple(known))
    if len(folders) != classes:
        named = f" ({_some(known)})" if known else ""
        raise RecNextError(
            f"{checkpoint} knows {classes} classes{named}, {root} holds {len(folders)} class folders "
            f"({_some(folders)}): evaluate on the classes it was trained on, or train on these with "
            f"'recnext train {data} --checkpoint {checkpoint}'"
        )
    if known:
        unknown = [name for name in folders if name not in known]
        raise RecNextError(
            f"{root} holds classes that {checkpoint} does not know: {_some(unknown)}; it knows {_some(known)}: "
            "name the folders as in training"
        )
    return ClassFolder(root, class_names=folders)


def evaluate_classifier(
    forward: Callable[[Tensor], Tensor],
    images: ClassFolder,
    *,
    preparation: ImagePreparation,
    num_classes: int,
    device: torch.device,
    batch_size: int = 64,
    workers: int = 2,
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> Accuracy:
    """Accuracy on a folder tree, in one process.

    Args:
        forward: normalised float32 (N, 3, H, W), channels_last, to logits (N, num_classes).
        images: from `open_for`; its transform is set here.
        preparation: of the images.
        num_classes: width of the logits.
        device: where `forward` runs.
        batch_size: images at once.
        workers: processes that load images.
        on_batch: called with each batch, for progress.

    Raises:
        UnreadableImageError: names the first image that could not be read.
    """
    images.transform = preparation.evaluation_transform()
    batches = EvaluationBatches(len(images), batch_size=batch_size)
    loader = make_loader(images, batches, workers=workers, pin_memory=device.type == "cuda")

    def watched() -> Any:
        for batch in loader:
            yield batch
            on_batch(batch)

    meter = evaluate(forward, watched(), num_classes=num_classes, preparation=preparation, device=device)
    return meter.compute()


def _some(names: Sequence[str]) -> str:
    more = f", ... {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
