"""Tables of features or classes for any number of images, by any number of processes."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch
from PIL import Image
from torch import Tensor, nn

from recnext.data import normalise
from recnext.data.images import Unreadable, UnreadableImageError, open_image, read_image
from recnext.engine.processes import Processes

from .chunks import ChunkSource, Item
from .parts import Parts
from .predict import decoded, prepared_input

ROWS = 512  # of a chunk: what is held in memory, and computed again after a kill
_Forward = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Pooled:
    """One vector an image, or one a stage.

    Args:
        stages: the network is a backbone that returns maps; each is averaged over its area.
    """

    stages: bool = False

    def outputs(self, result: Any) -> dict[str, Tensor]:
        """Columns of float32 (N, channels) by name."""
        if not self.stages:
            return {"features": result.float()}
        return {f"stage_{number}": stage.float().mean((2, 3)) for number, stage in enumerate(result)}

    def column(self, name: str, rows: Sequence[Optional[Tensor]]) -> Any:
        """An Arrow array of lists; null where an image could not be read."""
        import pyarrow

        return pyarrow.array([None if row is None else row.numpy() for row in rows], pyarrow.list_(pyarrow.float32()))


@dataclass(frozen=True)
class TopClasses:
    """The likeliest classes of an image, the likeliest first.

    Args:
        names: in the order of the outputs.
        topk: how many.
    """

    names: Sequence[str]
    topk: int = 5

    def outputs(self, result: Any) -> dict[str, Tensor]:
        """Columns by name: indices (N, topk) and probabilities (N, topk)."""
        probabilities, indices = result.float().softmax(1).topk(min(self.topk, result.shape[1]))
        return {"index": indices, "class": indices, "probability": probabilities}

    def column(self, name: str, rows: Sequence[Optional[Tensor]]) -> Any:
        """An Arrow array of lists; null where an image could not be read."""
        import pyarrow

        kinds = {"index": pyarrow.int32(), "class": pyarrow.string(), "probability": pyarrow.float32()}
        values = [None if row is None else row.tolist() for row in rows]
        if name == "class":
            values = [None if row is None else [_utf8(self.names[index]) for index in row] for row in values]
        return pyarrow.array(values, pyarrow.list_(kinds[name]))


Columns = Union[Pooled, TopClasses]


@torch.inference_mode()
def write_table(
    model: nn.Module,
    source: ChunkSource,
    parts: Parts,
    *,
    columns: Columns,
    processes: Processes,
    forward: Optional[_Forward] = None,
    image_size: Optional[tuple[int, int]] = None,
    batch_size: int = 32,
    workers: int = 2,
    rows: int = ROWS,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> tuple[int, list[Unreadable]]:
    """Computes this process's chunks that are not done, and writes each as it is finished.

    A table has the columns "image", those of `columns`, and "error", which is null but for images that could not be
    read. Memory holds one chunk and a few batches.

    Args:
        model: of `recnext.load`, in eval mode on the device.
        source: of images.
        parts: opened by the first process.
        columns: what to keep of the network's output.
        processes: which of them this is.
        forward: computes in place of the model.
        image_size: height and width in pixels; by default those the network was trained at.
        batch_size: images at once.
        workers: threads that decode.
        rows: images of a chunk; the same in a run that goes on.
        on_rows: called with the number of images of each chunk.

    Returns:
        Images of this call, and what could not be read of them.
    """
    preparation, channels = prepared_input(model, image_size)
    decode = _Decoder(preparation.evaluation_transform(), grey=channels == 1)
    run = forward or model.eval()
    device = processes.device

    def computed(pixels: Tensor) -> dict[str, Tensor]:
        inputs = normalise(pixels, mean=preparation.mean, std=preparation.std, device=device)
        return {name: values.cpu() for name, values in columns.outputs(run(inputs)).items()}

    blank = torch.zeros(1, channels, *preparation.size, dtype=torch.uint8)
    names = list(computed(blank))  # also for a chunk without one readable image
    count, unreadable = 0, list[Unreadable]()
    for chunk in source.chunks(rank=processes.rank, world_size=processes.world_size, rows=rows, done=parts.done):
        table: dict[str, list[Optional[Tensor]]] = {name: [] for name in names}
        errors: list[Optional[str]] = []
        for batch in decoded(chunk.items, decode, batch_size=batch_size, workers=workers):
            pixels = [result for _, result in batch if isinstance(result, Tensor)]
            outputs = computed(torch.stack(pixels)) if pixels else {}
            found = {name: iter(values) for name, values in outputs.items()}
            for _, result in batch:
                readable = isinstance(result, Tensor)
                for name, column in table.items():
                    column.append(next(found[name]) if readable else None)
                errors.append(None if isinstance(result, Tensor) else result)
        images = [item.name for item in chunk.items]
        arrays = {name: columns.column(name, column) for name, column in table.items()}
        parts.write(chunk.name, {"image": _strings(images), **arrays, "error": _strings(errors)})
        unreadable += [Unreadable(name, error) for name, error in zip(images, errors, strict=True) if error is not None]
        count += len(images)
        on_rows(len(images))
    return count, unreadable


def _strings(values: Sequence[Optional[str]]) -> Any:
    """An Arrow array of text; the bytes of names that are not UTF-8 become escapes."""
    import pyarrow

    return pyarrow.array([None if value is None else _utf8(value) for value in values], pyarrow.string())


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class _Decoder:
    """Opens, resizes and crops an image to a uint8 tensor; gives the reason where that fails."""

    def __init__(self, transform: Callable[[Image.Image], Tensor], *, grey: bool) -> None:
        self.transform = transform
        self.grey = grey

    def __call__(self, item: Item) -> tuple[Item, Union[Tensor, str]]:
        if item.problem:
            return item, item.problem
        try:
            if item.data is None:
                image = open_image(item.name, grey=self.grey)
            else:
                image = read_image(io.BytesIO(item.data), grey=self.grey)
            return item, self.transform(image)
        except UnreadableImageError as error:
            return item, str(error)
