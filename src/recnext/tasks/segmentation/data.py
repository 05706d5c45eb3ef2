"""Images with label maps on disk: ADE20K's layout, and plain folders of images and masks.

ADE20K: ``DATA/images/{training,validation}`` and ``DATA/annotations/{training,validation}``; in a label map 0 counts
nowhere and class i is i + 1. Plain: ``DATA/{train,val}/images`` and ``DATA/{train,val}/masks``; class i is i and 255
counts nowhere. Other numbers may be given, such as 0 and 255. A mask has its image's name, whatever the suffix. The
classes' names are the lines of ``DATA/classes.txt``, or ADE20K's own ``DATA/objectInfo150.txt``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from recnext.data.images import UnreadableImageError, decoded, read_image
from recnext.data.labelled import listed
from recnext.data.listing import Survey, as_composed, expected_files, walk
from recnext.errors import RecNextError
from recnext.text import read_text

from .losses import IGNORE

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
_MOST_CLASSES = 254
_MOST_VALUES = 2**16  # of 16 bits
_LOOKED_AT = 64  # masks, for whether there is any class in them
_NO_CLASS = -1

Layout = Literal["ade", "plain"]
_FOLDERS: dict[Layout, dict[str, tuple[str, ...]]] = {
    "ade": {"train": ("training", "train"), "val": ("validation", "val", "valid")},
    "plain": {"train": ("train", "training"), "val": ("val", "validation", "valid")},
}


class MaskFolder(Dataset[Any]):
    """The images and label maps of one split.

    Args:
        images: folder of images, searched to any depth.
        masks: folder with a label map of the same relative name for each.
        class_names: in the order of the labels.
        layout: "ade" where label maps count classes from 1, "plain" from 0.
        values: what label maps hold for each class, where it is not that.

    Raises:
        RecNextError: there are no images, masks are missing or two have one name, or no pixel has a class but 0.
    """

    def __init__(
        self,
        images: Path,
        masks: Path,
        *,
        class_names: tuple[str, ...],
        layout: Layout = "plain",
        values: Sequence[int] = (),
    ) -> None:
        self.root = images
        self.class_names = class_names
        self.layout = layout
        self.values = tuple(values)
        self.pairs = _pairs(images, masks)
        if not values:
            self._require_classes(masks)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.pairs[index][0])

    def identity(self, index: int) -> str:
        """Names of an image and its mask, and the mask's size, in one text."""
        image, mask = self.pairs[index]
        return f"{image}\t{mask.name}\t{mask.stat().st_size}"

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """An image, uint8 (3, H, W), and its labels, uint8 (H, W) with 255 where a pixel counts nowhere.

        Raises:
            UnreadableImageError: one of the files is damaged, their sizes differ, or a label is no class.
        """
        image_path, mask_path = self.pairs[index]
        try:
            image = np.array(read_image(image_path))
        except UnreadableImageError as error:
            raise UnreadableImageError(f"cannot read image {image_path}: {error}") from None
        labels = read_labels(mask_path, layout=self.layout, num_classes=len(self.class_names), values=self.values)
        if labels.shape != image.shape[:2]:
            sizes = [f"{width}x{height}" for height, width in (labels.shape, image.shape[:2])]
            raise UnreadableImageError(f"mask {mask_path} is {sizes[0]} pixels, its image {image_path} {sizes[1]}")
        return tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(labels))

    def _require_classes(self, masks: Path) -> None:
        """Refuses masks of 0 and 255 alone, in which no pixel has a class but the first, if any."""
        seen: set[int] = set()
        for _, path in self.pairs[:: -(-len(self.pairs) // _LOOKED_AT)]:
            try:
                seen.update(np.unique(_stored(path)).tolist())
            except UnreadableImageError:  # named where it is read
                continue
            if not seen <= {0, IGNORE}:
                return
        if IGNORE in seen:
            raise RecNextError(
                f"the masks in {masks} hold {' and '.join(map(str, sorted(seen)))} alone, and {IGNORE} counts nowhere: "
                f"no pixel is {self.class_names[1]!r}; where {IGNORE} means that class, give --mask-values [0,{IGNORE}]"
            )


def read_labels(path: Path, *, layout: Layout, num_classes: int, values: Sequence[int] = ()) -> np.ndarray:
    """A label map as uint8 (H, W): class numbers from 0, 255 where a pixel counts nowhere.

    Args:
        path: of the file.
        layout: whether it counts classes from 1 or 0.
        num_classes: as many as there are.
        values: what it holds for each class instead.

    Raises:
        UnreadableImageError: the file is damaged, coloured, or holds a label that is no class.
    """
    stored = _stored(path)
    expected = tuple(values) or tuple(range(1, num_classes + 1) if layout == "ade" else range(num_classes))
    labels = _table(expected, layout)[np.where((stored < 0) | (stored >= _MOST_VALUES), _MOST_VALUES, stored)]
    if labels.min(initial=0) == _NO_CLASS:
        row, column = (int(place) for place in np.argwhere(labels == _NO_CLASS)[0])
        shown = ", ".join(map(str, values)) or f"{expected[0]}..{expected[-1]}"
        nowhere = " or ".join(str(value) for value in (0, IGNORE) if _table(expected, layout)[value] == IGNORE)
        raise UnreadableImageError(
            f"mask {path} holds label {stored[row, column]} at row {row}, column {column}: expected "
            f"{shown} for {num_classes} classes" + (f", or {nowhere} for pixels that count nowhere" if nowhere else "")
        )
    return labels.astype(np.uint8)


@cache
def _table(values: tuple[int, ...], layout: Layout) -> np.ndarray:
    """The label of each stored number."""
    table = np.full(_MOST_VALUES + 1, _NO_CLASS, dtype=np.int16)
    table[IGNORE] = IGNORE
    if layout == "ade":
        table[0] = IGNORE
    table[list(values)] = range(len(values))
    return table


def _stored(path: Path) -> np.ndarray:
    """The numbers in a label map, int64 (H, W)."""
    try:
        with decoded(path) as image:
            mode, stored = image.mode, np.array(image)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"cannot read mask {path}: {error}") from None
    if stored.ndim != 2 or stored.dtype.kind not in "bui":
        raise UnreadableImageError(
            f"mask {path} is {mode}: expected one channel of class numbers (grey or palette, 8 or 16 bits)"
        )
    return stored.astype(np.int64)


@dataclass(frozen=True)
class MaskFolders:
    """Both splits of a tree, their classes, and where they were opened."""

    train: MaskFolder
    val: MaskFolder
    class_names: tuple[str, ...]
    layout: Layout
    source: str


def open_mask_folders(
    root: Path, *, num_classes: Optional[int] = None, values: Optional[Sequence[int]] = None
) -> MaskFolders:
    """Opens both splits of a tree in either layout.

    Args:
        root: of the tree.
        num_classes: as many as expected; without names, the classes are then called by their numbers.
        values: what masks hold for each class, where it is not what the layout says.

    Raises:
        RecNextError: folders, names, images or masks are missing, or the number of classes differs.
    """
    layout = find_layout(root)
    names = read_class_names(root, num_classes=num_classes)
    train, val = (_open_split(root, split, names, layout, _checked(values, names)) for split in ("train", "val"))
    return MaskFolders(train, val, names, layout, str(root))


def _open_split(
    root: Path, split: str, class_names: tuple[str, ...], layout: Layout, values: tuple[int, ...]
) -> MaskFolder:
    images, masks = _folders(root, split, layout)
    for folder in (images, masks):
        if not folder.is_dir():
            raise RecNextError(f"{root} has no folder {folder.relative_to(root)}: expected {_expected(root)}")
    return MaskFolder(images, masks, class_names=class_names, layout=layout, values=values)


def open_evaluation(
    root: Path, *, num_classes: Optional[int] = None, values: Optional[Sequence[int]] = None
) -> MaskFolder:
    """The validation images of a tree, or `root` itself where it holds ``images`` and ``masks``.

    Raises:
        RecNextError: as `open_mask_folders`.
    """
    alone = (root / "images").is_dir() and (root / "masks").is_dir()
    layout: Layout = "plain" if alone else find_layout(root)
    names = read_class_names(root, num_classes=num_classes)
    if alone:
        return MaskFolder(root / "images", root / "masks", class_names=names, values=_checked(values, names))
    return _open_split(root, "val", names, layout, _checked(values, names))


def _checked(values: Optional[Sequence[int]], class_names: tuple[str, ...]) -> tuple[int, ...]:
    """The numbers of the classes in masks, different ones and as many as there are names."""
    given = tuple(values or ())
    if given and (len({*given}) != len(class_names) or len(given) != len(class_names)):
        raise RecNextError(f"--mask-values {list(given)} are not {len(class_names)} different numbers, one a class")
    if not all(0 <= value < _MOST_VALUES for value in given):
        raise RecNextError(f"--mask-values {list(given)}: expected numbers from 0 to {_MOST_VALUES - 1}")
    return given


def find_layout(root: Path) -> Layout:
    """ "ade" or "plain", by the folders in `root`.

    Raises:
        RecNextError: it is neither.
    """
    if not root.is_dir():
        raise RecNextError(f"{root} {'is a file, not a folder' if root.exists() else 'does not exist'}")
    if (root / "annotations").is_dir() and (root / "images").is_dir():
        return "ade"
    if any((root / name / "masks").is_dir() for names in _FOLDERS["plain"].values() for name in names):
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
        names = tuple(line.strip() for line in read_text(plain).splitlines() if line.strip())
        source = str(plain)
    elif ade.is_file():
        rows = [line.split("\t") for line in read_text(ade).splitlines()[1:] if line.strip()]
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
    """The folders of images and masks of a split, by the first of its names that is there."""
    names = _FOLDERS[layout][split]
    if layout == "ade":
        return _first(root / "images", names), _first(root / "annotations", names)
    folder = _first(root, names)
    return folder / "images", folder / "masks"


def _first(root: Path, names: Sequence[str]) -> Path:
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def _expected(root: Path) -> str:
    return (
        f"{root}/{{train,val}}/images with {root}/{{train,val}}/masks, or ADE20K's "
        f"{root}/images/{{training,validation}} with {root}/annotations/{{training,validation}}"
    )


def _pairs(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    survey = Survey()
    found = _by_name(images, survey)
    if not found:
        raise RecNextError(f"no images in {images}: {expected_files(survey)}")
    survey.warn(images)
    there = _by_name(masks, Survey(), suffixes=MASK_SUFFIXES)
    missing = [str(paths[0]) for name, paths in found.items() if name not in there]
    if missing:
        raise RecNextError(
            f"no mask in {masks} for {listed(missing, 3)}: expected the image's name with {' '.join(MASK_SUFFIXES)}"
        )
    for paths in (paths for name in found for paths in (found[name], there[name])):
        if len(paths) > 1:
            raise RecNextError(
                f"{paths[0]} and {paths[1]} have one name but for the ending: which belongs to the pair?"
            )
    return sorted((paths[0], there[name][0]) for name, paths in found.items())


def _by_name(folder: Path, survey: Survey, **options: Any) -> dict[str, list[Path]]:
    """The images in a folder by their relative path without ending, accents composed."""
    found: dict[str, list[Path]] = {}
    for path in map(Path, walk(str(folder), survey, **options)):
        found.setdefault(as_composed(path.relative_to(folder).with_suffix("").as_posix()), []).append(path)
    return found
