"""ImageNet-1k: its class order, and what folders have to look like so that labels are the published networks'."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from timm.data import ImageNetInfo

from recnext.errors import RecNextError

from .folders import ClassFolder, find_class_names, require_sorted_validation
from .labelled import listed

CLASSES = 1000
_WNID = re.compile(r"n\d{8}")


@cache
def wnids() -> tuple[str, ...]:
    """The 1000 WordNet ids in the order of the labels (sorted)."""
    return tuple(ImageNetInfo().label_names())


def are_wnids(names: Sequence[str]) -> bool:
    """Whether all folder names look like WordNet ids."""
    return all(_WNID.fullmatch(name) for name in names)


def labels_of(root: Path, names: Sequence[str]) -> dict[str, int]:
    """The ImageNet label of each class folder: by WordNet id, or by the label itself as ImageNet-V2 writes it.

    Args:
        root: holds the folders, for messages.
        names: of the folders.

    Raises:
        RecNextError: the names tell no label, or others than ImageNet's; sorting them would give a wrong class order.
    """
    order = {name: label for label, name in enumerate(wnids())}
    if are_wnids(names):
        unknown = [name for name in names if name not in order]
        if unknown:
            raise RecNextError(
                f"{root} holds WordNet ids that are not among ImageNet-1k's 1000: {listed(unknown)}; "
                "remove these folders, or evaluate a network that was trained on them"
            )
        return {name: order[name] for name in names}
    if all(name.isdecimal() for name in names):
        labels = {name: int(name) for name in names}
        if len(set(labels.values())) == len(labels) and max(labels.values()) < CLASSES:
            return labels
        raise RecNextError(
            f"{root} numbers its class folders up to {max(labels.values())}, ImageNet's labels are 0 to 999: "
            "the development kit's numbers from 1 are another order; name the folders by WordNet id"
        )
    strange = [name for name in names if not _WNID.fullmatch(name)]
    raise RecNextError(
        f"{root} names class folders otherwise than ImageNet does ({listed(strange)}), their sorted order is not the "
        "order of the labels: name them by WordNet id, such as n01440764, or by label, 0 to 999"
    )


def open_imagenet(root: Path, *, split: str) -> ClassFolder:
    """``root/train`` or ``root/val`` with exactly the 1000 class folders.

    Args:
        root: of the data set.
        split: "train" or "val".

    Raises:
        RecNextError: the images of val are not sorted into class folders, or the classes are not ImageNet's 1000.
    """
    folder = root / split
    if not folder.is_dir():
        raise RecNextError(f"{root} has no folder {split!r}: expected {folder}/<wnid>/*, for each of 1000 classes")
    require_sorted_validation(folder)
    names = find_class_names(folder)
    labels = labels_of(folder, names)
    missing = sorted(set(range(CLASSES)) - set(labels.values()))
    if missing:
        named = [wnids()[label] for label in missing]
        raise RecNextError(
            f"{folder} holds {len(names)} of ImageNet's 1000 classes, without {listed(named)}: add them, or train on "
            "the folders as a data set of their own, without 'imagenet:'"
        )
    return ClassFolder(folder, class_names=wnids(), labels=labels)
