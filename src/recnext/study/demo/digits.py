"""The embedded demo data: scikit-learn's 1797 handwritten digits, real images of 8x8 pixels.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998; CC BY 4.0), as
`sklearn.datasets.load_digits` ships it. They are enlarged to 32 pixels so that a network of stride 32 has a map.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from recnext.errors import MissingExtraError

CLASS_NAMES = tuple(str(digit) for digit in range(10))
SIZE = 32
TEST_SHARE = 0.2


class Digits(Dataset[tuple[Tensor, int]]):
    """One split in memory, as uint8 (3, 32, 32) tensors; the same pixels as `write_folders` puts on disk.

    Args:
        split: "train" (1437 images) or "val" (360).
        transform: applied to each tensor.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """

    class_names = CLASS_NAMES

    def __init__(self, split: str, *, transform: Optional[Callable[[Tensor], Tensor]] = None) -> None:
        images, labels = _load()
        chosen = _split(labels)[split]
        pixels = np.stack([np.asarray(_enlarge(images[index])) for index in chosen])
        self.images = torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1).contiguous()
        self.labels: list[int] = labels[chosen].tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), self.labels[index]


def write_folders(root: Path, *, per_class: Optional[int] = None) -> None:
    """Writes the digits as 32x32 PNGs: ``root/train/<digit>/<number>.png`` and ``root/val/...``.

    Args:
        root: made where missing; files of an earlier call are written again.
        per_class: keep only the first so many images of a class in each split; None keeps all 1797.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    images, labels = _load()
    for split, indices in _split(labels).items():
        for label, name in enumerate(CLASS_NAMES):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in indices[labels[indices] == label][:per_class]:
                _enlarge(images[index]).save(folder / f"{index:04d}.png")


def _load() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train", "the embedded digits data") from error
    data = load_digits()
    return data.images, data.target  # (1797, 8, 8) of 0..16, (1797,)


def _split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """The same stratified choice always: every fifth image of a class, after a fixed shuffle, is for testing."""
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = [order[labels[order] == label] for label in range(len(CLASS_NAMES))]
    held_out = [indices[: round(len(indices) * TEST_SHARE)] for indices in by_class]
    kept = [indices[round(len(indices) * TEST_SHARE) :] for indices in by_class]
    return {"train": np.sort(np.concatenate(kept)), "val": np.sort(np.concatenate(held_out))}


def _enlarge(image: np.ndarray) -> Image.Image:
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    return grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
