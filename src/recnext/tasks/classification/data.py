"""Images and labels as a classifier wants them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from timm.data import resolve_model_data_config
from torch import nn

from recnext.data import ClassFolder, ImagePreparation
from recnext.data.folders import evaluation_root, find_class_names
from recnext.data.imagenet import CLASSES, labels_of, wnids
from recnext.data.labelled import timm_order
from recnext.data.listing import as_composed
from recnext.data.sources import kind_of, open_split
from recnext.errors import RecNextError

from .network import shorten


def preparation_of(
    model: nn.Module, *, image_size: Union[int, tuple[int, int], None] = None, crop_pct: Optional[float] = None
) -> ImagePreparation:
    """How a network's checkpoint says images are to be prepared.

    Args:
        model: from `recnext.load`.
        image_size: another height and width of the input than the checkpoint's, in pixels; one number is both.
        crop_pct: another share of the resized image than the checkpoint's.

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
    size = image_size or (height, width)
    return ImagePreparation(
        size=size if isinstance(size, tuple) else (size, size),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_pct=config["crop_pct"] if crop_pct is None else crop_pct,
        interpolation=config["interpolation"],
    )


def open_for(model: nn.Module, data: Union[str, Path], *, checkpoint: str) -> Any:
    """The images in `data` (its ``val``, or itself) with the labels that the network gives them.

    Labels go by the class names in the checkpoint; where it has none, by ImageNet's order for 1000 classes, and for
    another number by timm's order of the folders, which a line names where others sort otherwise.

    Args:
        model: from `recnext.load`.
        data: root of class folders, or a ``kind:place`` of `recnext.data.open_dataset`.
        checkpoint: its name, for errors.

    Raises:
        RecNextError: the folders are not the network's classes, or hold no images.
    """
    classes: int = model.num_classes  # type: ignore[assignment]
    known: Sequence[str] = getattr(model, "pretrained_cfg", {}).get("label_names") or ()
    if kind_of(str(data))[0]:
        return _open_kind(str(data), classes, known, checkpoint=checkpoint)
    root = evaluation_root(Path(data), class_names=known)
    folders = find_class_names(root)
    if set(folders) <= set(map(as_composed, known)):
        return ClassFolder(root, class_names=tuple(known))
    if len(folders) != classes:
        named = f" ({shorten(known)})" if known else ""
        raise RecNextError(
            f"{checkpoint} knows {classes} classes{named}, {root} holds {len(folders)} class folders "
            f"({shorten(folders)}): evaluate on the classes it was trained on{_advice(model, root, checkpoint)}"
        )
    if classes == CLASSES and (not known or tuple(known) == wnids()):
        return ClassFolder(root, class_names=wnids(), labels=labels_of(root, folders))
    if known:
        unknown = [name for name in folders if name not in set(map(as_composed, known))]
        raise RecNextError(
            f"{root} holds classes that {checkpoint} does not know: {shorten(unknown)}; it knows {shorten(known)}: "
            "name the folders as in training"
        )
    return ClassFolder(root, class_names=timm_order(folders, checkpoint=checkpoint))


def _open_kind(data: str, classes: int, known: Sequence[str], *, checkpoint: str) -> Any:
    """Its val split, when its classes are the network's, labelled as the network does."""
    images = open_split(data, split="val")
    names = tuple(images.class_names)
    if known and set(map(as_composed, names)) <= set(map(as_composed, known)):
        images.take_classes(known)
        return images
    if known or len(names) != classes:
        raise RecNextError(
            f"{checkpoint} knows {classes} classes{f' ({shorten(known)})' if known else ''}, {data} has {len(names)} "
            f"({shorten(names)}): both need the same"
        )
    if kind_of(data)[0] == "tar":
        images.take_classes(timm_order(names, checkpoint=checkpoint))
    return images


def _advice(model: nn.Module, root: Path, checkpoint: str) -> str:
    """How to train on the images, where there are some to train on."""
    data = next((folder for folder in (root, root.parent) if (folder / "train").is_dir()), None)
    name = getattr(model, "pretrained_cfg", {}).get("architecture")
    if data is None or name is None:
        return ""
    words = ("recnext", "train", str(data), "--checkpoint", checkpoint, "--model", name)
    return f", or train on these with: {shlex.join(words)}"
