"""Images with label maps on disk: ADE20K's layout, and plain folders of images and masks.

ADE20K: ``DATA/images/{training,validation}`` and ``DATA/annotations/{training,validation}``; in a label map 0 counts
nowhere and class i is i + 1. Plain: ``DATA/{train,val}/images`` and ``DATA/{train,val}/masks``; class i is i and 255
counts nowhere. A mask has its image's name, whatever the suffix. The classes' names are the lines of
``DATA/classes.txt``, or ADE20K's own ``DATA/objectInfo150.txt``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS

from recnext.data.images import UnreadableImageError, open_header, read_image
from recnext.errors import RecNextError

from .losses import IGNORE

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
_MOST_CLASSES = 254
_SHOWN = 3

Layout = Literal["ade", "plain"]
Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], Any]


class MaskFolder(Dataset[Any]):
    """The images and label maps of one split.

    Args:
        images: folder of images, searched to any depth.
        masks: folder with a label map of the same relative name for each.
        class_names: in the order of the labels.
        layout: "ade" where label maps count classes from 1, "plain" from 0.
        transform: applied to image, uint8 (3, H, W), and labels, uint8 (H, W) with 255 where a pixel counts nowhere.

    Raises:
        RecNextError: there are no images, or masks are missing.
    """

    def __init__(
        self,
        images: Path,
        masks: Path,
        *,
        class_names: tuple[str, ...],
        layout: Layout = "plain",
        transform: Optional[Transform] = None,
    ) -> None:
        self.root = images
        self.class_names = class_names
        self.layout = layout
        self.transform = transform
        self.pairs = _pairs(images, masks)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.pairs[index][0])

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """What the transform makes of an image and its labels.

        Raises:
            UnreadableImageError: one of the files is damaged, their sizes differ, or a label is no class.
        """
        image_path, mask_path = self.pairs[index]
        try:
            image = np.array(read_image(str(image_path)))
        except UnreadableImageError as error:
            raise UnreadableImageError(f"cannot read image {image_path}: {error}") from None
        labels = self.labels(index)
        if labels.shape != image.shape[:2]:
            sizes = [f"{width}x{height}" for height, width in (labels.shape, image.shape[:2])]
            raise UnreadableImageError(f"mask {mask_path} is {sizes[0]} pixels, its image {image_path} {sizes[1]}")
        pair = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(labels))
        return pair if self.transform is None else self.transform(*pair)

    def labels(self, index: int) -> np.ndarray:
        """uint8 (H, W): class numbers from 0, 255 where a pixel counts nowhere.

        Raises:
            UnreadableImageError: the file is damaged, coloured, or holds a label that is no class.
        """
        return read_labels(self.pairs[index][1], layout=self.layout, num_classes=len(self.class_names))


def read_labels(path: Path, *, layout: Layout, num_classes: int) -> np.ndarray:
    """A label map as uint8 (H, W): class numbers from 0, 255 where a pixel counts nowhere.

    Raises:
        UnreadableImageError: the file is damaged, coloured, or holds a label that is no class.
    """
    try:
        with open_header(path) as image:
            image.load()
            mode, stored = image.mode, np.array(image)
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        reason = str(error).strip().splitlines()
        raise UnreadableImageError(
            f"cannot read mask {path}: {reason[0] if reason else type(error).__name__}"
        ) from None
    if stored.ndim != 2 or stored.dtype.kind not in "bui":
        raise UnreadableImageError(
            f"mask {path} is {mode}: expected one channel of class numbers (grey or palette, 8 or 16 bits)"
        )
    first = 1 if layout == "ade" else 0
    ignored = (stored == IGNORE) | ((stored == 0) & (layout == "ade"))
    labels = np.where(ignored, IGNORE, stored.astype(np.int64) - first)
    wrong = (labels != IGNORE) & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        nowhere = "0 or 255" if layout == "ade" else "255"
        raise UnreadableImageError(
            f"mask {path} holds label {stored[row, column]} at row {row}, column {column}: expected "
            f"{first}..{num_classes - 1 + first} for {num_classes} classes, or {nowhere} for pixels that count nowhere"
        )
    return labels.astype(np.uint8)


@dataclass(frozen=True)
class MaskFolders:
    """Both splits of a tree, their classes, and where they were opened."""

    train: MaskFolder
    val: MaskFolder
    class_names: tuple[str, ...]
    layout: Layout
    source: str


def open_mask_folders(root: Path, *, num_classes: Optional[int] = None) -> MaskFolders:
    """Opens both splits of a tree in either layout.

    Args:
        root: of the tree.
        num_classes: as many as expected; without names, the classes are then called by their numbers.

    Raises:
        RecNextError: folders, names, images or masks are missing, or the number of classes differs.
    """
    layout = find_layout(root)
    names = read_class_names(root, num_classes=num_classes)
    train, val = (open_split(root, split, class_names=names, layout=layout) for split in ("train", "val"))
    return MaskFolders(train, val, names, layout, str(root))


def open_split(
    root: Path, split: Literal["train", "val"], *, class_names: tuple[str, ...], layout: Layout
) -> MaskFolder:
    """Opens one split of a tree.

    Raises:
        RecNextError: as `MaskFolder`, or a folder is missing.
    """
    images, masks = _folders(root, split, layout)
    for folder in (images, masks):
        if not folder.is_dir():
            raise RecNextError(f"{root} has no folder {folder.relative_to(root)}: expected {_expected(root)}")
    return MaskFolder(images, masks, class_names=class_names, layout=layout)


def open_evaluation(root: Path, *, num_classes: Optional[int] = None) -> MaskFolder:
    """The validation images of a tree, or `root` itself where it holds ``images`` and ``masks``.

    Raises:
        RecNextError: as `open_mask_folders`.
    """
    if (root / "images").is_dir() and (root / "masks").is_dir():
        names = read_class_names(root, num_classes=num_classes)
        return MaskFolder(root / "images", root / "masks", class_names=names)
    layout = find_layout(root)
    return open_split(root, "val", class_names=read_class_names(root, num_classes=num_classes), layout=layout)


def find_layout(root: Path) -> Layout:
    """ "ade" or "plain", by the folders in `root`.

    Raises:
        RecNextError: it is neither.
    """
    if not root.is_dir():
        raise RecNextError(f"{root} {'is a file, not a folder' if root.exists() else 'does not exist'}")
    if (root / "annotations").is_dir() and (root / "images").is_dir():
        return "ade"
    if any((root / split / "masks").is_dir() for split in ("train", "val")):
        return "plain"
    raise RecNextError(f"{root} holds no images with masks: expected {_expected(root)}")


def read_class_names(root: Path, *, num_classes: Optional[int] = None) -> tuple[str, ...]:
    """The names in ``root/classes.txt`` or ``root/objectInfo150.txt``, else numbers up to `num_classes`.

    Raises:
        RecNextError: there is no file and no number, the two disagree, or there are fewer than 2 or more than 254.
    """
    plain, ade = root / "classes.txt", root / "objectInfo150.txt"
    names: tuple[str, ...]
    if plain.is_file():
        names = tuple(line.strip() for line in plain.read_text(encoding="utf-8").splitlines() if line.strip())
        source = str(plain)
    elif ade.is_file():
        rows = [line.split("\t") for line in ade.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
        names = tuple(row[-1].split(",")[0].strip() for row in rows)
        source = str(ade)
    elif num_classes is not None:
        names, source = tuple(str(number) for number in range(num_classes)), "--num-classes"
    else:
        raise RecNextError(f"{root} does not name its classes: give {plain} (a name a line) or --num-classes")
    if num_classes is not None and num_classes != len(names):
        raise RecNextError(
            f"{source} names {len(names)} classes, not {num_classes}: leave --num-classes out or mend it"
        )
    if not 2 <= len(names) <= _MOST_CLASSES:
        raise RecNextError(f"{source} has {len(names)} classes: expected 2 to {_MOST_CLASSES}")
    return names


def _folders(root: Path, split: str, layout: Layout) -> tuple[Path, Path]:
    if layout == "ade":
        folder = {"train": "training", "val": "validation"}[split]
        return root / "images" / folder, root / "annotations" / folder
    return root / split / "images", root / split / "masks"


def _expected(root: Path) -> str:
    return (
        f"{root}/{{train,val}}/images with {root}/{{train,val}}/masks, or ADE20K's "
        f"{root}/images/{{training,validation}} with {root}/annotations/{{training,validation}}"
    )


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.name[0] != ".")
    if not found:
        raise RecNextError(f"no images in {images}: expected files ending in {' '.join(IMG_EXTENSIONS)}")
    by_name = {
        path.relative_to(masks).with_suffix(""): path
        for path in masks.rglob("*")
        if path.suffix.lower() in MASK_SUFFIXES and path.name[0] != "."
    }
    names = [path.relative_to(images).with_suffix("") for path in found]
    missing = [str(path) for path, name in zip(found, names, strict=True) if name not in by_name]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise RecNextError(
            f"no mask in {masks} for {', '.join(missing[:_SHOWN])}{more}: expected the image's name with "
            f"{' '.join(MASK_SUFFIXES)}"
        )
    return [(path, by_name[name]) for path, name in zip(found, names, strict=True)]
