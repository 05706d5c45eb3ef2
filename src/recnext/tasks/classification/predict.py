"""Classes of images, in batches, while further images are decoded."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Optional, TypeVar, Union

import torch
from PIL import Image
from timm.data import ImageNetInfo, resolve_model_data_config
from torch import Tensor, nn

from recnext.data import ImagePreparation, normalise
from recnext.data.images import Unreadable, UnreadableImageError, open_image
from recnext.errors import RecNextError
from recnext.tasks.evaluation import checked

_Image = TypeVar("_Image")


@dataclass(frozen=True)
class ClassScore:
    """One class and how likely it is."""

    index: int
    """Of the network's output."""
    name: str
    """The index in words where there is no name."""
    probability: float
    """0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image."""

    image: str
    classes: tuple[ClassScore, ...]
    """The likeliest first."""


@torch.inference_mode()
def classify(
    model: nn.Module,
    images: Iterable[str],
    *,
    topk: int = 5,
    batch_size: int = 32,
    image_size: Optional[tuple[int, int]] = None,
    class_names: Optional[Sequence[str]] = None,
    forward: Optional[Callable[[Tensor], Tensor]] = None,
    workers: Optional[int] = None,
) -> Iterator[Union[Prediction, Unreadable]]:
    """Classifies images as the network's evaluation would prepare them.

    Memory does not grow with the number of images: a few batches are decoded ahead.

    Args:
        model: a classifier of `recnext.load` or timm, on the device to compute on.
        images: paths and addresses, as of `find_images`.
        topk: classes per image.
        batch_size: images at once.
        image_size: height and width in pixels; by default those the network was trained at.
        class_names: in the order of the outputs; by default those of the checkpoint, or ImageNet's for 1000 classes.
        forward: computes (N, C, H, W) normalised float32 images to (N, classes) logits in place of the model, such
            as a faster form of it.
        workers: threads that decode; by default as many as there are CPUs.

    Yields:
        A Prediction, or an Unreadable, for every image in order.

    Raises:
        RecNextError: the model has no classes, the names are not as many as those, or a number is not positive;
            when the first image is asked for. Or its answers are no numbers.
    """
    for name, value in (("topk", topk), ("batch_size", batch_size), ("workers", workers)):
        if value is not None and value < 1:
            raise RecNextError(f"{name}={value} must be 1 or more")
    names = class_names_of(model, class_names)
    preparation, channels = prepared_input(model, image_size)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))  # a file has none
    decode = _Decoder(preparation.evaluation_transform(), grey=channels == 1)
    run = checked(model.eval() if forward is None else forward)
    for batch in decoded(images, decode, batch_size=batch_size, workers=workers or os.cpu_count() or 1):
        pixels = [tensor for _, tensor in batch if isinstance(tensor, Tensor)]
        scores: Iterator[tuple[ClassScore, ...]] = iter(())
        if pixels:
            inputs = normalise(torch.stack(pixels), mean=preparation.mean, std=preparation.std, device=device)
            scores = iter(top_classes(run(inputs), names, topk))
        for image, tensor in batch:
            yield Unreadable(image, tensor) if isinstance(tensor, str) else Prediction(image, next(scores))


class _Decoder:
    """Opens, resizes and crops an image to a uint8 tensor; gives the reason where that fails."""

    def __init__(self, transform: Callable[[Image.Image], Tensor], *, grey: bool) -> None:
        self.transform = transform
        self.grey = grey

    def __call__(self, image: str) -> tuple[str, Union[Tensor, str]]:
        try:
            return image, self.transform(open_image(image, grey=self.grey))
        except UnreadableImageError as error:
            return image, str(error)


def decoded(
    images: Iterable[_Image],
    decode: Callable[[_Image], tuple[_Image, Union[Tensor, str]]],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[list[tuple[_Image, Union[Tensor, str]]]]:
    """Batches in order, with one batch and a few images more on their way.

    Args:
        images: paths, or whatever `decode` takes.
        decode: gives its argument back with a uint8 tensor, or with the reason why there is none.
        batch_size: images at once.
        workers: threads.
    """
    remaining = iter(images)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        waiting: deque[Future[tuple[_Image, Any]]] = deque()
        waiting.extend(pool.submit(decode, image) for image in islice(remaining, batch_size + 2 * workers))
        while waiting:
            batch: list[tuple[_Image, Union[Tensor, str]]] = []
            while waiting and len(batch) < batch_size:
                batch.append(waiting.popleft().result())
                waiting.extend(pool.submit(decode, image) for image in islice(remaining, 1))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def top_classes(logits: Tensor, names: Sequence[str], topk: int) -> list[tuple[ClassScore, ...]]:
    """The likeliest classes of each row of (N, classes) logits."""
    probabilities, indices = logits.float().softmax(dim=1).topk(min(topk, logits.shape[1]))
    return [
        tuple(ClassScore(index, names[index], probability) for index, probability in zip(row, values, strict=True))
        for row, values in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]


def class_names_of(model: nn.Module, given: Optional[Sequence[str]] = None) -> Sequence[str]:
    """The classes of a network in the order of its outputs; `given` replaces the checkpoint's names.

    Raises:
        RecNextError: the network has no classes, or another number of them.
    """
    classes = int(getattr(model, "num_classes", 0) or 0)
    if classes < 1:
        raise RecNextError("this network has no classes: load it with a classifier")
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("label_names") if given is None else given
    if names is None:
        return ImageNetInfo().label_descriptions() if classes == 1000 else [str(index) for index in range(classes)]
    if len(names) != classes:
        raise RecNextError(f"{len(names)} class names for a network of {classes} classes")
    return names


def prepared_input(model: nn.Module, image_size: Optional[tuple[int, int]] = None) -> tuple[ImagePreparation, int]:
    """How a network's images are prepared, and how many channels it takes: 1 (grey) or 3 (RGB).

    Raises:
        RecNextError: it takes another number of channels.
    """
    config = resolve_model_data_config(model)
    _, *size = config["input_size"]
    channels = int(getattr(model, "in_chans", config["input_size"][0]))
    if channels not in (1, 3):
        raise RecNextError(f"this network takes images of {channels} channels; expected 1 (grey) or 3 (RGB)")
    mean, std = (_per_channel(config[key], channels) for key in ("mean", "std"))
    preparation = ImagePreparation(
        size=image_size or (size[0], size[1]),
        mean=mean,
        std=std,
        crop_pct=config["crop_pct"],
        interpolation=config["interpolation"],
    )
    return preparation, channels


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
