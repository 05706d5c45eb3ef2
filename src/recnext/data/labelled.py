"""Images with labels, by number: what every kind of data with random access is to the loader."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from PIL import Image
from timm.utils.misc import natural_key
from torch.utils.data import Dataset

from recnext.errors import RecNextError

from .images import UnreadableImageError, read_image
from .listing import as_composed

_LOG = logging.getLogger("recnext")
VALIDATION = ("val", "validation", "valid", "test")
"""What data sets call the split to evaluate on."""

_SHOWN = 8  # names listed in an error


class LabelledImages(Dataset[tuple[Image.Image, int]]):
    """Pairs of an RGB `PIL.Image` and its label; a subclass says where image `index` is.

    Args:
        labels: of the images.
        class_names: in the order of the labels.
        root: what to call the data set in messages.
    """

    def __init__(self, labels: Sequence[int], *, class_names: Sequence[str], root: Union[str, Path]) -> None:
        self.labels = list(labels)
        self.class_names = tuple(require_utf8(name, f"a class of {root}") for name in class_names)
        self.root = root

    def file(self, index: int) -> Union[str, io.BytesIO]:
        """A path, or what a file holds.

        Raises:
            OSError: it cannot be read.
        """
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What to call an image in messages."""
        raise NotImplementedError

    def identity(self, index: int) -> str:
        """Name and label of an image, in one text."""
        return f"{self.name(index)}\t{self.labels[index]}"

    def image(self, index: int) -> Image.Image:
        """The decoded image.

        Raises:
            UnreadableImageError: it is damaged, truncated, no image or gone.
        """
        return read_image(self.file(index))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """The image and its label.

        Raises:
            UnreadableImageError: the image is damaged, truncated, no image or gone; names it.
        """
        try:
            image = self.image(index)
        except (UnreadableImageError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreadableImageError(f"cannot read image {self.name(index)}: {reason}") from None
        return image, self.labels[index]

    def take_classes(self, names: Sequence[str]) -> None:
        """Labels the images by the places of their classes in `names`.

        Raises:
            RecNextError: a class is not among them.
        """
        places = places_of(self.class_names, names, root=self.root)
        self.labels = [places[label] for label in self.labels]
        self.class_names = tuple(names)


class ImageFiles(LabelledImages):
    """Images by path.

    Args:
        samples: (path, label) pairs.
        class_names: in the order of the labels.
        root: what to call the data set in messages.
    """

    def __init__(
        self, samples: Sequence[tuple[str, int]], *, class_names: Sequence[str], root: Union[str, Path] = "images"
    ) -> None:
        super().__init__([label for _, label in samples], class_names=class_names, root=root)
        self.paths = [path for path, _ in samples]

    def file(self, index: int) -> str:
        """The path."""
        return self.paths[index]

    name = file


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """What to train on, what to evaluate on, and the names of the labels.

    `train` and `val` have a length and class names, and go into `make_loader`.
    """

    train: Any
    val: Any
    class_names: tuple[str, ...]
    source: str


def places_of(names: Sequence[str], known: Sequence[str], *, root: object) -> list[int]:
    """The place of each of `names` in `known`, composed and decomposed accents alike.

    Raises:
        RecNextError: one is not there.
    """
    if tuple(names) == tuple(known):
        return list(range(len(names)))
    place = {as_composed(name): number for number, name in enumerate(known)}
    unknown = [name for name in names if as_composed(name) not in place]
    if unknown:
        raise RecNextError(f"{root} has the classes {listed(unknown)}, which are not among {listed(known)}")
    return [place[as_composed(name)] for name in names]


def require_utf8(name: str, place: object) -> str:
    """The name of a class, which checkpoints store.

    Raises:
        RecNextError: it is no text in UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = str(place).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise RecNextError(f"{shown} has a name that is not UTF-8, and classes are named by it: rename it") from None
    return name


def timm_order(names: Sequence[str], *, checkpoint: str) -> tuple[str, ...]:
    """The order of labels of a network whose file does not name them: timm's, with 2 before 10.

    A line says so where torchvision sorts the names otherwise.

    Args:
        names: of class folders.
        checkpoint: its name, for that line.
    """
    ordered, others = sorted(names, key=natural_key), sorted(names)
    if ordered != others:
        _LOG.warning(
            "%s does not name its classes: labels are taken in timm's order, %s; in torchvision's it would be %s. "
            "recnext.save with class_names stores another",
            checkpoint,
            listed(ordered),
            listed(others),
        )
    return tuple(ordered)


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
