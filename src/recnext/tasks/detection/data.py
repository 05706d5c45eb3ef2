"""COCO data on disk: where images and annotations are, and data sets of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from recnext.data.images import UnreadableImageError, read_image
from recnext.data.listing import find_file
from recnext.errors import RecNextError

from .coco import CocoFile, CocoImage, decode_segmentation, read_coco

_SMALLEST_SIDE = 32  # pixels of an image to learn from, as published
_ANNOTATIONS = (
    "annotations/instances_{split}2017.json",
    "annotations/instances_{split}.json",
    "annotations/{split}.json",
    "{split}/_annotations.coco.json",
    "{split}/annotations.json",
)
_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation")}
_IMAGES = ("{split}2017", "{split}", "images/{split}2017", "images/{split}", "images")
_LOOKED_FOR = 20  # images, to tell which folder is theirs

Target = dict[str, Any]


class CocoFolder(Dataset[tuple[Any, Target]]):
    """The images of one split with their objects.

    Args:
        root: folder of the images.
        file: their annotations.
        images: those of the file that are used.
        masks: load masks too.
    """

    def __init__(self, root: Path, file: CocoFile, images: list[CocoImage], *, masks: bool) -> None:
        self.root = root
        self.file = file
        self.images = images
        self.masks = masks

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """The file of an image."""
        return str(self.root / self.images[index].file)

    def identity(self, index: int) -> str:
        """Name and objects of an image, in one text."""
        return f"{self.name(index)}\t{self.images[index]}"

    def wide(self) -> Tensor:
        """Which images are at least as wide as high, bool (N,)."""
        return torch.tensor([image.width >= image.height for image in self.images])

    def __getitem__(self, index: int) -> tuple[Any, Target]:
        """Image uint8 (3, H, W), and ``boxes`` (N, 4), ``labels``, ``masks`` (N, H, W), ``image_id``, ``size``.

        Crowds are left out.

        Raises:
            UnreadableImageError: the file is damaged, gone, or not of the size that its record says.
        """
        record = self.images[index]
        path = find_file(self.root, record.file)
        try:
            pixels = read_image(path)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"cannot read image {path}: {error}") from None
        if pixels.size != (record.width, record.height):
            raise UnreadableImageError(
                f"image {path} has {pixels.width}x{pixels.height} pixels, its record (id {record.id}) says "
                f"{record.width}x{record.height}"
            )
        image = tv_tensors.Image(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))
        return image, self.target(record)

    def target(self, record: CocoImage) -> Target:
        """The objects of an image as tv_tensors."""
        size = (record.height, record.width)
        objects = [each for each in record.objects if not each.crowd]
        boxes = torch.tensor([each.box for each in objects], dtype=torch.float32).reshape(-1, 4)
        target: Target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.tensor([each.label for each in objects], dtype=torch.int64),
            "image_id": record.id,
            "size": size,
        }
        if self.masks:
            drawn = [decode_segmentation(each.segmentation, height=size[0], width=size[1]) for each in objects]
            masks = np.stack(drawn) if drawn else np.zeros((0, *size), dtype=bool)
            target["masks"] = tv_tensors.Mask(torch.from_numpy(masks.astype(np.uint8)))
        return target


@dataclass(frozen=True)
class CocoFolders:
    """Both splits, their common classes, what was passed over, and where they were opened."""

    train: CocoFolder
    val: CocoFolder
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    notes: tuple[str, ...]
    source: str


def open_coco(root: Path, *, masks: bool, max_missing: float = 0.0, keep_empty: bool = False) -> CocoFolders:
    """Opens a tree of images with COCO annotations.

    Images lie in ``root/train`` and ``root/val``, annotations in ``root/annotations/instances_train.json`` and
    ``..._val.json``; COCO 2017's own names (``train2017``), ``annotations/train.json`` and
    ``train/_annotations.coco.json`` are known too. Images without an object to learn from and those with a side
    under 32 pixels are not trained on.

    Args:
        root: the folder.
        masks: load masks too.
        max_missing: share of the training images that may be missing.
        keep_empty: train on images without objects too: they show what is background.

    Raises:
        RecNextError: something is missing or wrong, or the splits differ in their classes.
    """
    train = open_split(root, "train", masks=masks, max_missing=max_missing)
    val = open_split(root, "val", masks=masks)
    if (val.file.class_names, val.file.category_ids) != (train.file.class_names, train.file.category_ids):
        differing = sorted(set(train.file.class_names) ^ set(val.file.class_names))[:8]
        raise RecNextError(
            f"{train.file.path} and {val.file.path} have different categories ({', '.join(differing) or 'their ids'}): "
            "both need the same"
        )
    notes = [*train.file.notes, *val.file.notes]
    listed = len(train.file.images)
    if len(train) < listed:
        notes.append(f"{train.file.path.name}: {listed - len(train)} of {listed} images are missing: left out")
    kept = [image for image in train.images if min(image.width, image.height) >= _SMALLEST_SIDE]
    if len(kept) < len(train):
        notes.append(f"{train.file.path.name}: {len(train) - len(kept)} images under {_SMALLEST_SIDE} px: left out")
    with_objects = [image for image in kept if any(not each.crowd for each in image.objects)]
    if not keep_empty:
        if len(with_objects) < len(kept):
            notes.append(f"{train.file.path.name}: {len(kept) - len(with_objects)} images without objects: left out")
        kept = with_objects
    if not with_objects:
        raise RecNextError(
            f"{train.file.path} has no object to learn from: crowds and boxes under a pixel do not count"
        )
    train.images = kept
    return CocoFolders(train, val, train.file.class_names, train.file.category_ids, tuple(notes), str(root))


def open_split(root: Path, split: str, *, masks: bool, max_missing: float = 0.0) -> CocoFolder:
    """Opens one split of a tree that `open_coco` takes; all its images that are there.

    Raises:
        RecNextError: no such files, or more than the share `max_missing` of the images are missing.
    """
    if not root.is_dir():
        raise RecNextError(f"{root} {'is a file' if root.exists() else 'does not exist'}: expected a folder")
    annotations = next(iter(_existing(root, _ANNOTATIONS, split)), None)
    if annotations is None:
        raise RecNextError(
            f"{root} has no annotations of {split}: expected {root / 'annotations' / f'instances_{split}.json'}"
        )
    file = read_coco(annotations, masks=masks)
    folders = [*_existing(root, _IMAGES, split), root]
    listed = [image.file for image in file.images[:_LOOKED_FOR]]
    folder = max(folders, key=lambda folder: sum(os.path.isfile(find_file(folder, name)) for name in listed))
    return open_images(folder, file, masks=masks, max_missing=max_missing)


def open_images(folder: Path, file: CocoFile, *, masks: bool, max_missing: float = 0.0) -> CocoFolder:
    """The images of an annotation file that are in a folder.

    Raises:
        RecNextError: more than the share `max_missing` of them are not.
    """
    there = [image for image in file.images if os.path.isfile(find_file(folder, image.file))]
    missing = len(file.images) - len(there)
    if missing > max_missing * len(file.images):
        present = {id(image) for image in there}
        first = next(image for image in file.images if id(image) not in present)
        raise RecNextError(
            f"{missing} of {len(file.images)} images of {file.path} are missing, {folder / first.file} "
            f"(id {first.id}) first: is {folder} their folder?"
        )
    return CocoFolder(folder, file, there, masks=masks)


def _existing(root: Path, patterns: tuple[str, ...], split: str) -> list[Path]:
    names = _NAMES.get(split, (split,))
    paths = (root / pattern.format(split=name) for pattern in patterns for name in names)
    return [path for path in paths if path.exists()]


def training_transform(*, hflip: float, photometric: bool) -> Callable[[Any, Target], tuple[Any, Target]]:
    """Mirrors images with their boxes and masks, and changes brightness, contrast, saturation and hue."""
    steps: list[Any] = [v2.RandomHorizontalFlip(hflip)]
    if photometric:
        steps.append(v2.RandomPhotometricDistort(p=0.5))
    transform: Callable[[Any, Target], tuple[Any, Target]] = v2.Compose(steps)
    return transform
