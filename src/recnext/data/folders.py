"""Class folders: ``DATA/train/<class>/*`` and ``DATA/val/<class>/*``, any depth below a class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from recnext.errors import RecNextError

from .labelled import DataSplits, ImageFiles, listed, require_utf8
from .listing import Survey, as_composed, expected_files, is_ignored, walk

_SPLITS = ("train", "val", "test")


class ClassFolder(ImageFiles):
    """The images of one split.

    Args:
        root: folder that holds one folder a class.
        class_names: the classes, in the order of the labels; folders of other names are left out.
        labels: label of each folder, where several folders or other names than `class_names` are meant.

    Raises:
        RecNextError: a class has no images.
    """

    def __init__(self, root: Path, *, class_names: Sequence[str], labels: Optional[Mapping[str, int]] = None) -> None:
        label_of = labels or {as_composed(name): label for label, name in enumerate(class_names)}
        survey, samples, empty = Survey(), [], []
        for name, folder in class_folders(root).items():
            if name in label_of:
                found = [(path, label_of[name]) for path in walk(str(folder), survey)]
                samples += found
                empty += [] if found else [str(folder)]
        if empty:
            raise RecNextError(f"no images in {listed(empty)}: {expected_files(survey)}")
        survey.warn(root)
        super().__init__(samples, class_names=class_names, root=root)


def open_class_folders(root: Path) -> DataSplits:
    """Opens ``root/train`` and ``root/val``; labels follow the sorted folder names.

    Raises:
        RecNextError: a folder is missing or empty, or the two splits hold different classes.
    """
    _require_folder(root)
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise RecNextError(
                f"{root} has no folder {split!r}: expected {root / 'train'}/<class>/* and {root / 'val'}/<class>/*"
            )
    names, val_names = find_class_names(root / "train"), find_class_names(root / "val")
    if names != val_names:
        sides = (("train", set(names) - set(val_names)), ("val", set(val_names) - set(names)))
        differences = "; ".join(f"only in {side}: {listed(sorted(only))}" for side, only in sides if only)
        raise RecNextError(f"{root}: train and val hold different classes ({differences}): both need the same folders")
    if len(names) < 2:
        raise RecNextError(f"{root / 'train'} holds one class, {names[0]!r}: a classifier needs at least two")
    return DataSplits(
        train=ClassFolder(root / "train", class_names=names),
        val=ClassFolder(root / "val", class_names=names),
        class_names=names,
        source=str(root),
    )


def find_class_names(root: Path) -> tuple[str, ...]:
    """Sorted names of the class folders in `root`, accents composed.

    Raises:
        RecNextError: there is no such folder, no class in it, or two of one name.
    """
    return tuple(class_folders(root))


def class_folders(root: Path) -> dict[str, Path]:
    """The class folders in `root`, links among them, by name.

    Raises:
        RecNextError: there is no such folder, no class in it, or two of one name.
    """
    _require_folder(root)
    found: dict[str, Path] = {}
    for entry in root.iterdir():
        if is_ignored(entry.name) or not entry.is_dir():
            continue
        name = require_utf8(as_composed(entry.name), entry)
        if name in found:
            raise RecNextError(
                f"{root} has two folders {name!r}, whose accents are written in two ways of Unicode: put their images "
                "into one"
            )
        found[name] = entry
    if not found:
        require_sorted_validation(root)
        raise RecNextError(f"{root} holds no class folders: expected {root}/<class>/*, one folder a class")
    return dict(sorted(found.items()))


def require_sorted_validation(root: Path) -> None:
    """Refuses ImageNet's validation images as they come out of the archive, without class folders.

    Raises:
        RecNextError: they lie in `root` itself.
    """
    flat = next(root.glob("ILSVRC2012_val_*.JPEG"), None)
    if flat is not None:
        raise RecNextError(
            f"{root} holds ImageNet's validation images without class folders ({flat.name}): sort them into "
            f"{root}/<wnid>/; torchvision.datasets.ImageNet(root, split='val') does it from ILSVRC2012_img_val.tar "
            "and ILSVRC2012_devkit_t12.tar.gz"
        )


def split_names(root: Path) -> list[str]:
    """Which of ``train``, ``val`` and ``test`` are folders of class folders; none where all are classes themselves.

    Raises:
        OSError: a folder cannot be read.
    """
    names = [name for name in _SPLITS if (root / name).is_dir()]
    return [] if all(_holds_images(root / name) for name in names) else names


def evaluation_root(root: Path, *, class_names: Sequence[str] = ()) -> Path:
    """``root/val`` where there is one, else `root` itself as a tree of class folders.

    Args:
        root: of the tree.
        class_names: the expected ones; folders of these names are classes, were they called train and val.

    Raises:
        RecNextError: the folder is missing, or holds a train split only.
    """
    _require_folder(root)
    known = {as_composed(name) for name in class_names}
    for folder in (root / "val", root):
        inside = {
            as_composed(entry.name) for entry in folder.glob("*") if entry.is_dir() and not is_ignored(entry.name)
        }
        if inside and inside <= known:
            return folder
    splits = split_names(root)
    if "train" in splits and "val" not in splits:
        raise RecNextError(
            f"{root} has train but no val: put the images to evaluate on into {root / 'val'}/<class>/*, "
            f"or name the class folders themselves: {root / 'train'}"
        )
    return root / "val" if "val" in splits else root


def _holds_images(folder: Path) -> bool:
    """Whether images lie in a folder itself."""
    return next((Path(path).parent == folder for path in walk(str(folder), Survey())), False)


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise RecNextError(f"{root} {what}: expected a folder with train/<class>/* and val/<class>/*")
