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

from .chunks import Chunk, ChunkSource, Item
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


class ChunkReader:
    """Computes the rows of a table for the images of a chunk: one chunk and a few batches are in memory.

    Args:
        model: of `recnext.load`, in eval mode on the device.
        columns: what to keep of the network's output.
        device: of the model.
        forward: computes in place of the model.
        image_size: height and width in pixels; by default those the network was trained at.
        batch_size: images at once.
        workers: threads that decode.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: Columns,
        *,
        device: torch.device,
        forward: Optional[_Forward] = None,
        image_size: Optional[tuple[int, int]] = None,
        batch_size: int = 32,
        workers: int = 2,
    ) -> None:
        self.preparation, channels = prepared_input(model, image_size)
        self.decode = _Decoder(self.preparation.evaluation_transform(), grey=channels == 1)
        self.columns = columns
        self.device = device
        self.forward: _Forward = forward or model.eval()
        self.reading = {"batch_size": batch_size, "workers": workers}
        blank = torch.zeros(1, channels, *self.preparation.size, dtype=torch.uint8)
        self.names = list(self._compute(blank))  # also for a chunk without one readable image

    @torch.inference_mode()
    def _compute(self, pixels: Tensor) -> dict[str, Tensor]:
        inputs = normalise(pixels, mean=self.preparation.mean, std=self.preparation.std, device=self.device)
        return {name: values.cpu() for name, values in self.columns.outputs(self.forward(inputs)).items()}

    def __call__(self, chunk: Chunk) -> tuple[dict[str, Any], list[Unreadable]]:
        """Arrow arrays by name, and what could not be read.

        The columns are "image", those asked for, and "error", which is null but for images that could not be read.
        """
        table: dict[str, list[Optional[Tensor]]] = {name: [] for name in self.names}
        errors: list[Optional[str]] = []
        for batch in decoded(chunk.items, self.decode, **self.reading):
            pixels = [result for _, result in batch if isinstance(result, Tensor)]
            outputs = self._compute(torch.stack(pixels)) if pixels else {}
            found = {name: iter(values) for name, values in outputs.items()}
            for _, result in batch:
                readable = isinstance(result, Tensor)
                for name, column in table.items():
                    column.append(next(found[name]) if readable else None)
                errors.append(None if isinstance(result, Tensor) else result)
        images = [item.name for item in chunk.items]
        arrays = {name: self.columns.column(name, column) for name, column in table.items()}
        failed = [Unreadable(name, error) for name, error in zip(images, errors, strict=True) if error is not None]
        return {"image": _strings(images), **arrays, "error": _strings(errors)}, failed


def write_chunks(
    read: ChunkReader,
    source: ChunkSource,
    parts: Parts,
    *,
    processes: Processes,
    rows: int = ROWS,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> list[Unreadable]:
    """Computes this process's chunks that are not done, and writes each as it is finished.

    Args:
        read: computes a chunk.
        source: of images.
        parts: opened by the first process.
        processes: which of them this is.
        rows: images of a chunk; the same in a run that goes on.
        on_rows: called with the number of images of each chunk.

    Returns:
        What could not be read.
    """
    unreadable: list[Unreadable] = []
    for chunk in source.chunks(rank=processes.rank, world_size=processes.world_size, rows=rows, done=parts.done):
        columns, failed = read(chunk)
        parts.write(chunk.name, columns)
        unreadable += failed
        on_rows(len(chunk.items))
    return unreadable


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
