"""Tables of features or classes of any number of images, by any number of processes; a killed run can be resumed."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from torch import nn

from recnext.checkpoints.sources import find_file
from recnext.data.images import Unreadable
from recnext.engine.processes import Processes
from recnext.engine.settings import require
from recnext.sizes import MOST_WORKERS

from .chunks import open_chunks
from .embedding import ROWS, ChunkReader, Columns, Pooled, TopClasses, write_chunks
from .network import Accelerate, ClassifierSettings
from .parts import Parts
from .predict import class_names_of


@dataclass(frozen=True, kw_only=True)
class TableSettings(ClassifierSettings):
    """Which network to use on images in great number.

    Args:
        workers: threads that decode images; by default one per CPU.
    """

    workers: Optional[int] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        workers = self.workers is None or 1 <= self.workers <= MOST_WORKERS
        require(self, "workers", workers, f"an integer from 1 to {MOST_WORKERS}")

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one before, but for weights and images."""

    @abstractmethod
    def columns(self, network: nn.Module) -> Columns:
        """What to keep of the network's output."""

    def kind(self) -> dict[str, Any]:
        """Arguments of the network."""
        return {}

    def accelerated(self, network: nn.Module, processes: Processes, accelerate: Accelerate) -> Any:
        """The form of the network that runs."""
        return network

    def write(
        self,
        images: Sequence[str],
        output: Path,
        *,
        overwrite: bool,
        processes: Processes,
        accelerate: Accelerate,
        on_start: Callable[[int, Optional[int]], None],
        on_rows: Callable[[int], None],
    ) -> tuple[int, list[Unreadable]]:
        """Writes the table, or resumes it.

        Args:
            images: files, folders and patterns, or tar shards.
            output: ends in ``.parquet``.
            overwrite: replace another table.
            processes: which of them this is.
            accelerate: makes the form of the network that runs.
            on_start: called with the rows that are there, and with this process's share of the others, if known.
            on_rows: called with the number of images of each chunk.

        Returns:
            Rows of the table (0 but in the first process), and what this process could not read.

        Raises:
            RecNextError: no such network or images, or the table is another run's, or being written.
        """
        parts = Parts(output, overwrite=overwrite)
        source = open_chunks(images)
        with parts.held() if processes.first else nullcontext():
            network = self.load(processes.device, **self.kind())
            kept = self.columns(network)
            if processes.first:
                parts.open({**self._weights(), **self.facts(), **source.facts(), "rows": ROWS})
            processes.wait()
            done = parts.rows()
            left = None if source.total is None else -(-max(source.total - done, 0) // processes.world_size)
            on_start(done, left)
            read = ChunkReader(
                network,
                kept,
                device=processes.device,
                forward=self.accelerated(network, processes, accelerate),
                image_size=self.size,
                batch_size=self.batch_size,
                workers=self.workers or os.cpu_count() or 1,
            )
            unreadable = write_chunks(read, source, parts, processes=processes, on_rows=on_rows)
            processes.wait()
            rows = parts.join() if processes.first else 0
        return rows, unreadable

    def _weights(self) -> dict[str, Any]:
        """What tells one network's weights from another's: their name, and of a checkpoint the content."""
        facts = {"weights": self.checkpoint or self.model, "ema": self.ema}
        facts |= {"image_size": self.image_size, "fused": self.fused}
        if self.checkpoint is None:
            return facts
        digest = hashlib.blake2b(digest_size=16)
        with find_file(self.checkpoint, ema=self.ema).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return {**facts, "contents of the weights": digest.hexdigest()}


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings(TableSettings):
    """Which features to keep of images.

    Args:
        stages: a vector for every stage (stage_0, ...), the mean over its map, in place of the pooled features.
    """

    stages: bool = False

    def facts(self) -> dict[str, Any]:
        """Whether the features are those of the stages."""
        return {"stages": self.stages}

    def columns(self, network: nn.Module) -> Columns:
        """Features."""
        return Pooled(self.stages)

    def kind(self) -> dict[str, Any]:
        """A backbone, or a network without classifier."""
        return {"features_only": True} if self.stages else {"num_classes": 0}


@dataclass(frozen=True, kw_only=True)
class PredictionSettings(TableSettings):
    """How to classify images.

    Args:
        topk: classes per image.
        backend: torch, compile, onnxruntime, openvino, or auto for the fastest by a short trial.
        precision: fp32, bf16, fp16, or auto: with torch fp32, otherwise also bf16 where the hardware has it.
    """

    topk: int = 5
    backend: str = "torch"
    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "topk", self.topk >= 1, "an integer from 1")

    def facts(self) -> dict[str, Any]:
        """The number of classes."""
        return {"topk": self.topk}

    def columns(self, network: nn.Module) -> Columns:
        """The likeliest classes."""
        return TopClasses(class_names_of(network), self.topk)

    def accelerated(self, network: nn.Module, processes: Processes, accelerate: Accelerate) -> Any:
        """Another form of the network where one is asked for."""
        example = self.example(network, processes.device)
        return accelerate(network, example, backend=self.backend, precision=self.precision)
