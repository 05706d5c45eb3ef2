"""One way to name data: a folder of class folders, or ``kind:place`` for everything else."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from recnext.errors import RecNextError

from .folders import open_class_folders
from .hub import HubImages, HubShards
from .imagenet import open_imagenet
from .known import Cifar, open_flowers, open_inaturalist
from .labelled import DataSplits, listed
from .listing import as_composed
from .tars import TarImages, TarShards

# kind -> (what the place is, how a split of it is opened)
_KINDS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "imagenet": ("ROOT", lambda place, split: open_imagenet(Path(place), split=split)),
    "cifar10": ("ROOT", lambda place, split: Cifar(Path(place), classes=10, split=split)),
    "cifar100": ("ROOT", lambda place, split: Cifar(Path(place), classes=100, split=split)),
    "flowers102": ("ROOT", lambda place, split: open_flowers(Path(place), split=split)),
    "inat2018": ("ROOT", lambda place, split: open_inaturalist(Path(place), year=2018, split=split)),
    "inat2019": ("ROOT", lambda place, split: open_inaturalist(Path(place), year=2019, split=split)),
    "tar": ("ROOT", lambda place, split: TarImages(Path(place), split=split)),
    "hfds": ("NAME", lambda place, split: HubImages(place, split=split)),
    "hfids": ("NAME", lambda place, split: HubShards(place, split=split)),
    "wds": ("ROOT", lambda place, split: TarShards(place, split=split)),
}
_SCHEME = re.compile(r"([A-Za-z][\w+.-]+):")  # of two letters at least: C:\\ is a folder


def kind_of(spec: str) -> tuple[str, str]:
    """(kind, place) of a data set's name; the kind of folders is "".

    Raises:
        RecNextError: there is no such kind.
    """
    kind, colon, place = spec.partition(":")
    if not colon or len(kind) < 2 or Path(spec).exists():  # as above
        return "", spec
    if kind not in _KINDS:
        shown = ", ".join(f"{name}:{what}" for name, (what, _) in _KINDS.items())
        raise RecNextError(f"there is no kind of data {kind!r} (in {spec!r}): expected a folder, or one of {shown}")
    if not place:
        raise RecNextError(f"{spec!r} names no place: expected {kind}:{_KINDS[kind][0]}")
    scheme = _SCHEME.match(place)
    if scheme and not (kind == "wds" and scheme[1].lower() in ("http", "https")) and not Path(place).exists():
        fix = "a folder or an http(s) address" if kind == "wds" else "a folder"
        raise RecNextError(f"{spec!r} begins its place with {scheme[0]!r}: expected {fix}")
    return kind, place


def is_local(spec: str) -> bool:
    """Whether opening a data set reads files of this machine alone: neither an address nor a hub's data set.

    Raises:
        RecNextError: there is no such kind of data.
    """
    kind, place = kind_of(spec)
    return not kind.startswith("hf") and _SCHEME.match(place) is None


def open_dataset(spec: str) -> DataSplits:
    """Both splits of a data set.

    Args:
        spec: a folder with train/<class>/* and val/<class>/*; or imagenet:ROOT, cifar10:ROOT, cifar100:ROOT,
            flowers102:ROOT, inat2018:ROOT, inat2019:ROOT, tar:ROOT, hfds:NAME, hfids:NAME, wds:ROOT.

    Raises:
        RecNextError: the data is not there or not as it should be, or train and val have other classes.
    """
    kind, place = kind_of(spec)
    if not kind:
        return replace(open_class_folders(Path(place)), source=spec)
    train, val = open_split(spec, split="train"), open_split(spec, split="val")
    ours, theirs = ({as_composed(name) for name in part.class_names} for part in (train, val))
    if ours != theirs:
        raise RecNextError(
            f"{spec}: train and val name different classes ({listed(sorted(ours ^ theirs))}): both need the same"
        )
    val.take_classes(train.class_names)
    return DataSplits(train=train, val=val, class_names=tuple(train.class_names), source=spec)


def open_split(spec: str, *, split: str) -> Any:
    """One split, "train" or "val", of a data set of a kind; folders are opened by `open_dataset`.

    Raises:
        RecNextError: as `open_dataset`.
    """
    kind, place = kind_of(spec)
    assert kind, spec
    return _KINDS[kind][1](place, split)
