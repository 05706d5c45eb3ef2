"""Images to look into a network with: from files or drawn at random, as the network wants them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Optional

import torch
from PIL import Image
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from recnext.data import normalise
from recnext.data.images import UnreadableImageError, open_image
from recnext.data.listing import find_images
from recnext.errors import RecNextError
from recnext.tasks.classification.data import preparation_of

_BATCH = 4


@dataclass(frozen=True)
class ImageBatches:
    """Normalised images for one network.

    Attributes:
        batches: gives the same (N, C, H, W) batches, channels last, whenever it is called.
        total: images in all of them.
        described: in words.
    """

    batches: Callable[[], Iterator[Tensor]]
    total: int
    described: str


def image_batches(
    network: nn.Module,
    images: Optional[str],
    *,
    count: int,
    size: tuple[int, int],
    seed: int,
    device: torch.device,
) -> ImageBatches:
    """Up to `count` images of a file, folder or pattern, prepared for `network`; without one, normal noise.

    Raises:
        RecNextError: there are no such images; one that cannot be read is named when its batch is made.
    """
    if images is None:
        return ImageBatches(
            lambda: _noise(network, count, size, seed, device),
            count,
            f"{count} draw{'s' * (count > 1)} of random noise",
        )
    paths = list(islice(find_images([images]), count))
    preparation = replace(preparation_of(network), size=size)
    transform = preparation.evaluation_transform()

    def photographs() -> Iterator[Tensor]:
        for start in range(0, len(paths), _BATCH):
            pixels = torch.stack([transform(open_named(path)) for path in paths[start : start + _BATCH]])
            yield normalise(pixels, mean=preparation.mean, std=preparation.std, device=device)

    return ImageBatches(photographs, len(paths), f"{len(paths)} image{'s' * (len(paths) > 1)} of {images}")


def _noise(network: nn.Module, count: int, size: tuple[int, int], seed: int, device: torch.device) -> Iterator[Tensor]:
    channels = int(getattr(network, "in_chans", resolve_model_data_config(network)["input_size"][0]))
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, _BATCH):
        batch = torch.randn(min(_BATCH, count - start), channels, *size, generator=generator)
        yield batch.to(device).contiguous(memory_format=torch.channels_last)


def open_named(path: str) -> Image.Image:
    """Opens an image; raises RecNextError with its path where that fails."""
    try:
        return open_image(path)
    except UnreadableImageError as error:
        raise RecNextError(f"cannot read {path}: {error}") from None


def read_size(network: nn.Module) -> tuple[int, int]:
    """Height and width in pixels that the network was made for."""
    _, height, width = resolve_model_data_config(network)["input_size"]
    return height, width


def resize_network(network: Any, size: tuple[int, int]) -> None:
    """Tells networks with a fixed grid, such as ViT, what size is coming.

    Raises:
        RecNextError: it cannot take that size.
    """
    if hasattr(network, "set_input_size"):
        try:
            network.set_input_size(img_size=size)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise RecNextError(f"{type(network).__name__} cannot take images of {size[0]}x{size[1]}: {error}") from None
