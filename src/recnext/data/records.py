"""Images inside other files, by number: Hugging Face data sets and tar archives, through timm's readers."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from torch.utils.data import Dataset

from recnext.errors import MissingExtraError, RecNextError

from .images import UnreadableImageError, read_image


class ReaderImages(Dataset[tuple[Any, int]]):
    """A timm reader with random access, decoded as class folders are.

    Args:
        reader: gives (binary file, label) by number.
        name_of: what to call a number, quickly told.
        path_of: what to add where an image cannot be read.
        class_names: in the order of the labels.
        root: what to call the data set.
        order: number in the reader for each of ours; None keeps the reader's.
    """

    def __init__(
        self,
        reader: Any,
        *,
        name_of: Callable[[int], str],
        class_names: tuple[str, ...],
        root: str,
        path_of: Callable[[int], str] = lambda number: "",
        order: Optional[list[int]] = None,
    ) -> None:
        self.reader = reader
        self.path_of = path_of
        self.name_of = name_of
        self.class_names = class_names
        self.root = root
        self.order = order
        self.transform: Any = None
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The transformed image and its label.

        Raises:
            UnreadableImageError: the image is damaged.
        """
        if self._process != os.getpid():  # an open archive has one position, which processes must not share
            self._process = os.getpid()
            _forget_open_archives(self.reader)
        number = index if self.order is None else self.order[index]
        try:
            file, label = self.reader[number]
            with file:
                image = read_image(file)
        except (UnreadableImageError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreadableImageError(
                f"cannot read image {self.name(index)}{self.path_of(number)}: {reason}"
            ) from None
        return (image if self.transform is None else self.transform(image)), int(label)

    def name(self, index: int) -> str:
        """Of an image, in the archive or data set."""
        return self.name_of(index if self.order is None else self.order[index])


def open_hf(name: str, *, split: str) -> ReaderImages:
    """A Hugging Face data set or a folder of parquet files, memory-mapped: `datasets` copies it to its cache once.

    Args:
        name: on the hub, or a folder; columns "image" and "label".
        split: "train" or "val"; "validation" and "test" are taken for the latter where there is no "val".

    Raises:
        RecNextError: there is no such data set, split or column, or no class names.
        MissingExtraError: `datasets` is not installed.
    """
    require_datasets(name)
    from timm.data.readers.reader_hfds import ReaderHfds

    reader = with_hf_split(name, split, lambda chosen: ReaderHfds(name, split=chosen))

    def path_of(index: int) -> str:
        path = reader.dataset[index][reader.image_key].get("path")
        return f" ({path})" if path else ""

    return ReaderImages(
        reader,
        name_of=lambda index: f"{name}/{reader.split}/{index}",
        path_of=path_of,
        class_names=hf_class_names(list(reader.class_to_idx), name),
        root=f"{name} ({split})",
    )


def open_tars(root: Path, *, split: str) -> ReaderImages:
    """``root/train.tar`` or ``root/train/*.tar`` (and val), of images in class folders or one archive a class.

    Raises:
        RecNextError: there are no archives, or no images in them.
    """
    from timm.data.readers.reader_image_in_tar import ReaderImageInTar

    archive, folder = root / f"{split}.tar", root / split
    if archive.is_file():
        place = archive
    elif any(folder.glob("*.tar")):
        place = folder
    else:
        raise RecNextError(f"{root} has neither {archive.name} nor {split}/*.tar: expected archives of class folders")
    try:
        reader = ReaderImageInTar(str(place), cache_tarinfo=False)  # which would be a pickle
    except ValueError as error:
        raise RecNextError(f"{place} holds no images ({error}): expected <class>/<name>.jpg in it") from None
    except OSError as error:
        raise RecNextError(f"{place} is no whole tar archive: {error}") from None
    names = [reader.class_idx_to_name[label] for label in range(len(reader.class_idx_to_name))]

    def name_of(index: int) -> str:
        member, parent, _ = reader.samples[index]
        return f"{place / parent if parent else place}:{member.name}"

    order = sorted(range(len(reader)), key=name_of)  # the reader's depends on the file system
    return ReaderImages(reader, name_of=name_of, class_names=tuple(names), root=str(place), order=order)


def require_datasets(name: str) -> None:
    """Asks for the `datasets` package before timm does, which prints.

    Raises:
        MissingExtraError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("datasets") is None:
        raise MissingExtraError("datasets", "data", f"reading {name}")


def with_hf_split(name: str, split: str, make: Callable[[str], Any]) -> Any:
    """`make` with the name that the data set has for a split.

    Raises:
        RecNextError: it has none, or the data set cannot be opened.
    """
    from datasets import get_dataset_split_names

    try:
        there = get_dataset_split_names(name)
    except Exception as error:  # the hub client, parquet and the builder raise errors of many kinds
        raise RecNextError(f"cannot open the data set {name}: {_first_line(error)}") from None
    wanted = ("train",) if split == "train" else ("val", "validation", "valid", "test")
    chosen = next((candidate for candidate in wanted if candidate in there), None)
    if chosen is None:
        raise RecNextError(f"data set {name} has the splits {', '.join(there)}: expected {' or '.join(wanted)}")
    try:
        return make(chosen)
    except Exception as error:
        raise RecNextError(
            f"cannot read {name} ({chosen}), expected columns 'image' and 'label': {_first_line(error)}"
        ) from None


def hf_class_names(names: Sequence[str], data: str) -> tuple[str, ...]:
    """The class names of a label column.

    Raises:
        RecNextError: it has none.
    """
    if not names:
        raise RecNextError(
            f"data set {data} has no class names: its column 'label' must be a ClassLabel "
            "(dataset.cast_column('label', datasets.ClassLabel(names=...)) before saving)"
        )
    return tuple(names)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _forget_open_archives(reader: Any) -> None:
    state = getattr(reader, "tar_state", None)
    if state is None:
        return
    for archive in state.values() if isinstance(state, dict) else (state,):
        archive.reset()
        for child in archive.children.values():
            child.reset()
