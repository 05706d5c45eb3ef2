"""How time and memory grow with the image, for token mixers of a large receptive field."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from recnext.deploy.optimize.trial import interleaved
from recnext.nn.mixers import LinearAttention, RecConv2d

from .protocol import finished

STRIDE = 4
"""Of the first stage: an image of 224 pixels has a map of 56."""
CHANNELS = 48
"""Of RecNeXt-M1's first stage."""
KERNELS = (7, 15, 31)
LONGEST = 4096
"""Pixels of a map up to which softmax attention is run; its cost grows with their square."""


@dataclass(frozen=True)
class ImageCost:
    """One mixer at one image size."""

    mixer: str
    image: int
    pixels: int
    """Of the map."""
    milliseconds: float
    nanoseconds_per_pixel: float
    bytes_per_pixel: float
    """Peak of the tensors that the call makes, over the pixels; the output included, the input not."""


class SoftmaxAttention(nn.Module):
    """Ordinary attention over the pixels of a map, with one head of 16 channels in three."""

    def __init__(self, channels: int, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(x.shape)


def mixers(channels: int = CHANNELS) -> dict[str, nn.Module]:
    """The mixers compared, by name: RecConv of level 4 reaches 80 pixels, the others are named by their reach."""
    found: dict[str, nn.Module] = {"RecConv 5x5, level 4": RecConv2d(channels, 5, level=4)}
    for kernel in KERNELS:
        found[f"depthwise {kernel}x{kernel}"] = nn.Conv2d(
            channels, channels, kernel, padding=kernel // 2, groups=channels
        )
    found["linear attention"] = LinearAttention(channels, 2)
    found["softmax attention"] = SoftmaxAttention(channels)
    return found


def costs(
    images: Sequence[int], *, device: torch.device, rounds: int = 5, seconds: float = 2.0
) -> Iterator[list[ImageCost]]:
    """Costs of every mixer, image size by image size; softmax attention stops at LONGEST pixels."""
    made = {name: mixer.eval().to(device, memory_format=torch.channels_last) for name, mixer in mixers().items()}  # type: ignore[call-overload]
    for image in images:
        side = image // STRIDE
        x = torch.randn(1, CHANNELS, side, side, device=device).contiguous(memory_format=torch.channels_last)
        chosen = {name: mixer for name, mixer in made.items() if name[:7] != "softmax" or side * side <= LONGEST}
        with torch.inference_mode():
            times = interleaved(
                {name: finished(mixer, x) for name, mixer in chosen.items()}, rounds=rounds, seconds=seconds, calls=1
            )
            yield [
                ImageCost(
                    name,
                    image,
                    side * side,
                    1e3 * times[name].median,
                    1e9 * times[name].median / side**2,
                    peak_memory(finished(mixer, x), device) / side**2,
                )
                for name, mixer in chosen.items()
            ]


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Bytes allocated at most during a call beyond what was before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with _LiveTensors() as live:
        call()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Follows the memory of the tensors that operators make; what they use inside is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._made: list[tuple[StorageWeakRef, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id_ for id_, _ in map(_storage, _tensors(args))} | {ref.cdata for ref, _ in self._alive()}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors([result]):
            storage, size = _storage(tensor)
            if storage not in known:
                known.add(storage)
                self._made.append((StorageWeakRef(tensor.untyped_storage()), size))
        self.peak = max(self.peak, sum(size for _, size in self._alive()))
        return result

    def _alive(self) -> list[tuple[StorageWeakRef, int]]:
        self._made = [(ref, size) for ref, size in self._made if not ref.expired()]
        return self._made


def _storage(tensor: Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
