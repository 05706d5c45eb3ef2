"""What has to be measured for a report: accuracy, mistakes, calibration, speed, effective receptive field."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from recnext.data import Batch, ImagePreparation, normalise
from recnext.deploy.optimize.trial import interleaved
from recnext.nn.fusion import fuse
from recnext.study.analysis.erf import Contribution, contribution_areas, effective_receptive_field
from recnext.study.speed.protocol import finished
from recnext.tasks.classification.accuracy import Accuracy
from recnext.tasks.classification.evaluate import evaluate_classifier

from .charts import Bar

BINS = 15
"""Of the reliability diagram, as of `Accuracy.ece`."""

_THUMBNAIL = 112  # pixels a side at most
_ERF_BATCH = 4
_LEAST = 1e-3  # of the largest contribution: the dark end
_SPEED_SECONDS = 1.5
_COLD, _WARM, _HOT = "#140b34", "#b6367a", "#fcfdbf"


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for something else."""

    name: str
    truth: str
    prediction: str
    confidence: float
    """Of the prediction, 0 to 1."""
    picture: str
    """Data URI."""


@dataclass(frozen=True)
class Measured:
    """A network on labelled images."""

    accuracy: Accuracy
    class_names: tuple[str, ...]
    bars: list[Bar]
    mistakes: list[Mistake]
    """The most confident first."""
    wrong: int


@dataclass(frozen=True)
class Speed:
    """Time of a forward pass."""

    batch: int
    milliseconds: float


@dataclass(frozen=True)
class FieldPicture:
    """An effective receptive field."""

    picture: str
    """Data URI."""
    size: tuple[int, int]
    contributions: list[Contribution]
    images: int


@dataclass(frozen=True)
class Shown:
    """A classifier in eval mode on a device, and labelled images with how they are prepared for it."""

    network: nn.Module
    images: Any
    preparation: ImagePreparation
    device: torch.device


def measure_classifier(
    shown: Shown, *, batch_size: int, workers: int, mistakes: int, on_batch: Callable[[int], None]
) -> Measured:
    """Evaluates a classifier and keeps its most confident mistakes.

    Args:
        shown: what to evaluate.
        batch_size: images at once.
        workers: processes that load.
        mistakes: to keep.
        on_batch: told the images of each batch.

    Raises:
        UnreadableImageError: names the first image that could not be read.
    """
    kept: list[tuple[Tensor, Tensor]] = []  # confidences and predictions, batch by batch
    known: list[tuple[Tensor, Tensor]] = []  # labels and positions

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = shown.network(images)
        confidence, prediction = logits.float().softmax(1).max(1)
        kept.append((confidence.cpu(), prediction.cpu()))
        return logits

    def finish(batch: Batch) -> None:
        known.append((batch.labels, batch.positions))
        on_batch(len(batch.labels))

    names = tuple(shown.images.class_names)
    accuracy = evaluate_classifier(
        forward,
        shown.images,
        preparation=shown.preparation,
        device=shown.device,
        batch_size=batch_size,
        workers=workers,
        on_batch=finish,
    )
    confidences, predictions = map(torch.cat, zip(*kept, strict=True))
    labels, positions = map(torch.cat, zip(*known, strict=True))
    wrong = predictions != labels
    order = (confidences * wrong).argsort(descending=True, stable=True)[: min(mistakes, int(wrong.sum()))]
    return Measured(
        accuracy=accuracy,
        class_names=names,
        bars=calibration_bars(confidences, ~wrong),
        mistakes=[
            Mistake(
                name=_name(shown.images, int(positions[index])),
                truth=names[int(labels[index])],
                prediction=names[int(predictions[index])],
                confidence=float(confidences[index]),
                picture=_thumbnail(shown.images[int(positions[index])][0]),
            )
            for index in order.tolist()
        ],
        wrong=int(wrong.sum()),
    )


def calibration_bars(confidences: Tensor, right: Tensor, *, bins: int = BINS) -> list[Bar]:
    """The bins of equal width that hold images; a bin holds its upper edge.

    Args:
        confidences: (N,) in 0..1.
        right: bool (N,).
        bins: of the whole range.
    """
    places = (confidences.double() * bins).ceil().long().clamp(1, bins) - 1
    bars = []
    for place in places.unique().tolist():
        inside = places == place
        bars.append(
            Bar(
                low=place / bins,
                high=(place + 1) / bins,
                images=int(inside.sum()),
                confidence=float(confidences[inside].double().mean()),
                accuracy=float(right[inside].double().mean()),
            )
        )
    return bars


@torch.inference_mode()
def measure_speed(shown: Shown) -> list[Speed]:
    """A forward pass of one image and of sixteen: fused, PyTorch, float32, channels_last."""
    fused = fuse(shown.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def call(batch: int) -> Callable[[], None]:
        x = torch.randn(batch, 3, *shown.preparation.size, device=shown.device)
        return finished(fused, x.to(memory_format=torch.channels_last))

    times = interleaved({str(batch): call(batch) for batch in (1, 16)}, seconds=_SPEED_SECONDS, calls=1)
    return [Speed(int(batch), 1e3 * timing.median) for batch, timing in times.items()]


def measure_field(shown: Shown, count: int, *, on_batch: Callable[[int], None]) -> FieldPicture:
    """The effective receptive field of the last stage over images spread evenly over a data set.

    Args:
        shown: whose.
        count: images.
        on_batch: told the images of each batch.
    """
    transform, (mean, std) = shown.preparation.evaluation_transform(), (shown.preparation.mean, shown.preparation.std)
    count = min(count, len(shown.images))
    chosen = [index * len(shown.images) // count for index in range(count)]

    def batches() -> Any:
        for start in range(0, count, _ERF_BATCH):
            pixels = torch.stack([transform(shown.images[index][0]) for index in chosen[start : start + _ERF_BATCH]])
            yield normalise(pixels, mean=mean, std=std, device=shown.device)

    weights = effective_receptive_field(shown.network, batches(), on_batch=on_batch)
    scale = (weights / weights.max()).clamp(min=_LEAST).log10() / 3 + 1  # 0.001 to 1 become 0 to 1
    grey = Image.fromarray((255 * scale).round().to(torch.uint8).numpy())
    picture = ImageOps.colorize(grey, black=_COLD, mid=_WARM, white=_HOT)
    height, width = weights.shape
    return FieldPicture(data_uri(picture), (height, width), contribution_areas(weights), count)


def confusion_picture(confusion: Tensor) -> str:
    """A confusion matrix of many classes as a picture, a pixel a cell, dark where many; square roots of shares.

    Args:
        confusion: int64 (classes, classes), rows the truth.
    """
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    return data_uri(Image.fromarray((255 * (1 - shares.sqrt())).round().to(torch.uint8).numpy()))


def data_uri(image: Image.Image) -> str:
    """A picture inside a page, as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _thumbnail(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    if max(image.size) <= _THUMBNAIL:
        return data_uri(small)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _name(images: Any, position: int) -> str:
    return Path(str(images.name(position))).name if hasattr(images, "name") else f"image {position}"


def confusions(confusion: Tensor, names: Sequence[str], *, most: int) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions: truth, prediction, images, and their share of the true class."""
    wrong = confusion.clone()
    wrong.fill_diagonal_(0)
    values, places = wrong.flatten().topk(min(most, wrong.numel()))
    totals = confusion.sum(1)
    found = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        row, column = divmod(place, len(names))
        if value:
            found.append((names[row], names[column], value, value / int(totals[row])))
    return found
