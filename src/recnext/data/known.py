"""Data sets in the files their authors publish, through torchvision where it can split them."""

from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100, Flowers102

from recnext.errors import MissingExtraError, RecNextError
from recnext.text import read_json

from .labelled import ImageFiles, LabelledImages


class Cifar(LabelledImages):
    """CIFAR-10 or CIFAR-100 in memory, 32x32 pixels.

    Args:
        root: folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``.
        classes: 10 or 100.
        split: "train" (50000 images) or "val" (its test set, 10000).

    Raises:
        RecNextError: the files are missing, or not those of the published checksums.
    """

    def __init__(self, root: Path, *, classes: int, split: str) -> None:
        source = {10: CIFAR10, 100: CIFAR100}[classes]
        try:
            data = source(str(root), train=split == "train")
        except RuntimeError as error:
            raise RecNextError(
                f"{root / source.base_folder} is missing or not whole ({error}): unpack {source.filename} in {root}"
            ) from None
        self.pixels = data.data
        super().__init__(data.targets, class_names=data.classes, root=f"{root / source.base_folder} ({split})")

    def image(self, index: int) -> Image.Image:
        """The image."""
        return Image.fromarray(self.pixels[index])

    def name(self, index: int) -> str:
        """The number in the split."""
        return f"{self.root} {index}"


def open_flowers(root: Path, *, split: str) -> ImageFiles:
    """Oxford Flowers-102: the official train and validation images (2040) to train on, the test images to evaluate.

    Args:
        root: folder that holds ``flowers-102`` with ``jpg/``, ``imagelabels.mat`` and ``setid.mat``.
        split: "train" or "val".

    Raises:
        RecNextError: the files are missing, or not those of the published checksums.
        MissingExtraError: SciPy is not installed.
    """
    samples: list[tuple[str, int]] = []
    for part in ("train", "val") if split == "train" else ("test",):
        try:
            data = Flowers102(str(root), split=part)
        except RuntimeError:
            raise RecNextError(
                f"{root / 'flowers-102'} is missing or not whole: expected jpg/ from 102flowers.tgz, imagelabels.mat "
                "and setid.mat in it"
            ) from None
        except ImportError as error:
            raise MissingExtraError("scipy", "data", "reading Flowers-102's .mat files") from error
        samples += zip(map(str, data._image_files), data._labels, strict=True)
    return ImageFiles(samples, class_names=Flowers102.classes, root=root / "flowers-102")


def open_inaturalist(root: Path, *, year: int, split: str) -> ImageFiles:
    """iNaturalist 2018 (8142 classes) or 2019 (1010), split as the competition's JSON files say.

    torchvision's `INaturalist` keeps these images in a folder named by the year and knows no split of them; either
    that folder or the archive's own ``train_val<year>`` is taken.

    Args:
        root: folder that holds ``train<year>.json``, ``val<year>.json`` and the images.
        year: 2018 or 2019.
        split: "train" or "val".

    Raises:
        RecNextError: a file is missing or is not the competition's.
    """
    listing = _read(root / f"{split}{year}.json")
    categories = listing.get("categories") or _read(root / f"train{year}.json").get("categories")
    try:
        named = {int(entry["id"]): str(entry["name"]) for entry in categories or ()}
        files = {int(entry["id"]): str(entry["file_name"]) for entry in listing["images"]}
        pairs = [(files[int(entry["image_id"])], int(entry["category_id"])) for entry in listing["annotations"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecNextError(
            f"{root / f'{split}{year}.json'} is not the competition's annotation file (no or odd {error})"
        ) from None
    numbers = sorted(named or {category for _, category in pairs})
    labels = {number: label for label, number in enumerate(numbers)}
    base = _images_folder(root, year)
    samples = [
        (str(base / Path(*Path(name).parts[1:])), labels[category]) for name, category in pairs if category in labels
    ]
    class_names = [named.get(number, str(number)) for number in numbers]
    return ImageFiles(samples, class_names=class_names, root=f"{root} ({split}{year})")


def _images_folder(root: Path, year: int) -> Path:
    for folder in (root / f"train_val{year}", root / str(year)):
        if folder.is_dir():
            return folder
    raise RecNextError(f"{root} has no folder train_val{year} (or {year}): unpack train_val{year}.tar.gz in {root}")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RecNextError(f"{path} is missing: unpack the competition's {path.name} there")
    return read_json(path, "the competition's annotation file")
