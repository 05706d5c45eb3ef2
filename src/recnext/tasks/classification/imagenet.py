"""ImageNet's other test sets, each by its own protocol: ReaL labels, V2, A, R, Sketch and C.

Labels and class subsets come with timm (`timm/data/_info`). Sources: ReaL arXiv 2006.07159, V2 1902.10811,
A 1907.07174, R 2006.16241, Sketch 1905.13549, C 1903.12261.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Optional

import torch
from timm.data import RealLabelsImagenet
from torch import Tensor

from recnext.data.folders import ClassFolder, find_class_names
from recnext.data.imagenet import labels_of, wnids
from recnext.errors import RecNextError

VALIDATION_IMAGES = 50_000
SEVERITIES = range(1, 6)

# AlexNet's error on each corruption, the mean over the severities: what mCE divides by.
ALEXNET_ERROR: dict[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}

TEST_SETS = ("imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r")  # of one folder tree each
CORRUPTED = "imagenet-c"


@dataclass(frozen=True)
class LabelledSet:
    """Images with ImageNet labels, and the outputs that count.

    Args:
        images: their labels count among `columns` where these are given.
        columns: labels of a subset's classes; None takes all 1000 outputs.
    """

    images: ClassFolder
    columns: Optional[tuple[int, ...]] = None

    def restrict(self, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The network with the outputs that count."""
        if self.columns is None:
            return forward
        columns = torch.tensor(self.columns)
        return lambda images: forward(images)[:, columns.to(images.device)]


def open_test_set(name: str, root: Path) -> LabelledSet:
    """One of `TEST_SETS`.

    Args:
        name: of the set.
        root: the class folders, named by WordNet id, or for V2 by label.

    Raises:
        RecNextError: the folders are not those of the set.
    """
    names = find_class_names(root)
    labels = labels_of(root, names)
    if name not in ("imagenet-a", "imagenet-r"):
        if len(labels) != len(wnids()):
            raise RecNextError(f"{root} holds {len(labels)} of the 1000 classes of {name}: is the archive unpacked?")
        return LabelledSet(ClassFolder(root, class_names=wnids(), labels=labels))
    columns = subset(name)
    expected = [wnids()[column] for column in columns]
    if set(names) != set(expected):
        strange = sorted(set(names) ^ set(expected))
        raise RecNextError(
            f"{root} holds {len(names)} classes that are not the {len(expected)} of {name} (differing in "
            f"{', '.join(strange[:3])}): its accuracy counts those alone"
        )
    return LabelledSet(ClassFolder(root, class_names=expected), columns)


@cache
def subset(name: str) -> tuple[int, ...]:
    """The labels of the 200 classes of ImageNet-A or ImageNet-R.

    Args:
        name: "imagenet-a" or "imagenet-r".
    """
    text = (files("timm.data") / "_info" / f"{name.replace('-', '_')}_indices.txt").read_text(encoding="utf-8")
    return tuple(int(word) for word in text.split())


def open_corruptions(root: Path) -> dict[str, dict[int, LabelledSet]]:
    """ImageNet-C: the 15 corruptions in five severities.

    Args:
        root: holds ``<corruption>/<severity>/<wnid>/*``, also within ``noise``, ``blur``, ``weather``, ``digital``.

    Raises:
        RecNextError: one is missing.
    """
    found: dict[str, dict[int, LabelledSet]] = {}
    missing = []
    for corruption in ALEXNET_ERROR:
        places = [path for path in (root / corruption, *root.glob(f"*/{corruption}")) if path.is_dir()]
        severities = [number for number in SEVERITIES if places and (places[0] / str(number)).is_dir()]
        missing += [f"{corruption}/{number}" for number in SEVERITIES if number not in severities]
        found[corruption] = {}
        for number in severities:
            folder = places[0] / str(number)
            labels = labels_of(folder, find_class_names(folder))
            found[corruption][number] = LabelledSet(ClassFolder(folder, class_names=wnids(), labels=labels))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise RecNextError(
            f"{root} has no {', '.join(missing[:3])}{more}: mCE is a mean over 15 corruptions in 5 severities"
        )
    return found


def corruption_errors(top1: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """CE of each corruption: the error over the severities against AlexNet's, in per cent.

    Args:
        top1: per cent, by corruption and severity.
    """
    return {
        corruption: sum(100 - value for value in by_severity.values()) / len(by_severity) / ALEXNET_ERROR[corruption]
        for corruption, by_severity in top1.items()
    }


def mean_corruption_error(errors: Mapping[str, float]) -> float:
    """mCE in per cent, of `corruption_errors`."""
    return sum(errors.values()) / len(errors)


@cache
def _real_labels() -> dict[str, list[int]]:
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, VALIDATION_IMAGES + 1)]
    return RealLabelsImagenet(names).real_labels


def real_accuracy(names: Sequence[str], likeliest: Tensor) -> Optional[tuple[float, int]]:
    """Top-1 by the ReaL labels in per cent, and the images that have some; None for other images than ImageNet's val.

    Args:
        names: of the image files.
        likeliest: int64 (images, k), of each the likeliest class first.
    """
    known = _real_labels()
    right = []
    for name, prediction in zip(names, likeliest[:, 0].tolist(), strict=True):
        labels = known.get(Path(name).name)
        if labels is None:
            return None
        if labels:
            right.append(prediction in labels)
    return (100 * sum(right) / len(right), len(right)) if right else None
