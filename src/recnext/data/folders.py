"""Class folders: ``DATA/train/<class>/*`` and ``DATA/val/<class>/*``, any depth below a class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from recnext.errors import RecNextError

from .images import UnreadableImageError, read_image

_SHOWN = 8  # class names listed in an error


class ImageFiles(Dataset[tuple[Any, int]]):
    """Images by path, with labels.

    Args:
        samples: (path, label) pairs.
        class_names: in the order of the labels.
        transform: applied to each RGB `PIL.Image`.
        root: what to call the data set in messages.
    """

    def __init__(
        self,
        samples: Sequence[tuple[str, int]],
        *,
        class_names: Sequence[str],
        transform: Optional[Callable[[Image.Image], Any]] = None,
        root: Union[str, Path] = "images",
    ) -> None:
        self.samples = list(samples)
        self.class_names = tuple(class_names)
        self.transform = transform
        self.root = root

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The transformed image and its label.

        Raises:
            UnreadableImageError: the file is damaged, truncated, not an image or gone.
        """
        path, label = self.samples[index]
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"cannot read image {path}: {error}") from None
        return (image if self.transform is None else self.transform(image)), label

    def name(self, index: int) -> str:
        """The file's path."""
        return self.samples[index][0]


class ClassFolder(ImageFiles):
    """The images of one split.

    Args:
        root: folder that holds one folder a class.
        class_names: the classes, in the order of the labels; folders of other names are left out.
        transform: applied to each RGB `PIL.Image`.
        labels: label of each folder, where several folders or other names than `class_names` are meant.

    Raises:
        RecNextError: a class has no images.
    """

    def __init__(
        self,
        root: Path,
        *,
        class_names: Sequence[str],
        transform: Optional[Callable[[Image.Image], Any]] = None,
        labels: Optional[Mapping[str, int]] = None,
    ) -> None:
        wanted = labels or {name: label for label, name in enumerate(class_names)}
        folders = {name: number for number, name in enumerate(wanted) if (root / name).is_dir()}
        found = make_dataset(str(root), folders, extensions=IMG_EXTENSIONS, allow_empty=True) if folders else []
        with_images = {number for _, number in found}
        empty = [name for name, number in folders.items() if number not in with_images]
        if empty:
            raise RecNextError(
                f"no images in {_listed([str(root / name) for name in empty])}: "
                f"expected files ending in {' '.join(IMG_EXTENSIONS)}"
            )
        label_of = list(wanted.values())
        samples = [(path, label_of[number]) for path, number in found]
        super().__init__(samples, class_names=class_names, transform=transform, root=root)


@dataclass(frozen=True)
class ClassFolders:
    """Both splits of a tree and their common classes."""

    train: ClassFolder
    val: ClassFolder
    class_names: tuple[str, ...]


def open_class_folders(
    root: Path,
    *,
    train_transform: Optional[Callable[[Image.Image], Any]] = None,
    val_transform: Optional[Callable[[Image.Image], Any]] = None,
) -> ClassFolders:
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
        differences = "; ".join(f"only in {side}: {_listed(sorted(only))}" for side, only in sides if only)
        raise RecNextError(f"{root}: train and val hold different classes ({differences}): both need the same folders")
    if len(names) < 2:
        raise RecNextError(f"{root / 'train'} holds one class, {names[0]!r}: a classifier needs at least two")
    return ClassFolders(
        train=ClassFolder(root / "train", class_names=names, transform=train_transform),
        val=ClassFolder(root / "val", class_names=names, transform=val_transform),
        class_names=names,
    )


def find_class_names(root: Path) -> tuple[str, ...]:
    """Sorted names of the class folders in `root`; hidden ones are left out.

    Raises:
        RecNextError: there is no such folder, or no class in it.
    """
    _require_folder(root)
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        require_sorted_validation(root)
        raise RecNextError(f"{root} holds no class folders: expected {root}/<class>/*, one folder a class")
    return tuple(names)


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


def evaluation_root(root: Path) -> Path:
    """``root/val`` where there is one, else `root` itself as a tree of class folders.

    Raises:
        RecNextError: the folder is missing, or holds a train split only.
    """
    _require_folder(root)
    if (root / "val").is_dir():
        return root / "val"
    if (root / "train").is_dir():
        raise RecNextError(
            f"{root} has train but no val: put the images to evaluate on into {root / 'val'}/<class>/*, "
            f"or name the class folders themselves: {root / 'train'}"
        )
    return root


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise RecNextError(f"{root} {what}: expected a folder with train/<class>/* and val/<class>/*")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
