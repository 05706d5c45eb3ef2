"""A run's folder: settings, metrics, weights, and the state that lets it go on.

Files: ``config.yaml``, ``metrics.jsonl`` (a line an epoch), ``summary.json``, ``best.safetensors``,
``last.safetensors`` (with ``*_ema.safetensors`` beside them when an average is kept), ``curves.png`` and
``state.pt``. Each is replaced whole. ``state.pt`` comes last in a save and repeats the metrics, so it alone
decides where a run stands, whatever moment it was killed at.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from recnext.checkpoints.atomic import write_atomically
from recnext.checkpoints.metadata import CheckpointMetadata, save_checkpoint
from recnext.errors import RecNextError

Record = dict[str, Any]


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        path: the folder.
        writer: False in all processes but the first: they read only.
    """

    def __init__(self, path: Path, *, writer: bool = True) -> None:
        self.path = path
        self.writer = writer

    def open(self, *, resume: bool) -> bool:
        """Makes the folder; True when there is a run in it to resume.

        Raises:
            RecNextError: there is a run and `resume` is False, none and it is True, or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RecNextError(f"{self.path} is a file: --output expects a folder")
        started = (self.path / "config.yaml").exists()
        if started and not resume:
            raise RecNextError(
                f"{self.path} already holds a run: --resume goes on with it, another --output starts a new one"
            )
        if resume and not started:
            raise RecNextError(f"{self.path} holds no run to resume: check --output, or leave out --resume")
        if self.writer:
            self.path.mkdir(parents=True, exist_ok=True)
        return (self.path / "state.pt").exists()

    def read_config(self) -> dict[str, Any]:
        """The content of ``config.yaml``; empty when there is none.

        Raises:
            RecNextError: the file is damaged.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise RecNextError(f"{path} is not valid YAML: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
            raise RecNextError(f"{path} holds no settings of a run: was it edited?")
        return content

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Writes ``config.yaml``."""
        text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        self._write("config.yaml", text)

    def write_metrics(self, records: Sequence[Record]) -> None:
        """Writes ``metrics.jsonl``."""
        self._write("metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes ``summary.json``."""
        self._write("summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")

    def save_weights(self, name: str, model: nn.Module, metadata: CheckpointMetadata) -> None:
        """Writes ``NAME.safetensors``."""
        if self.writer:
            save_checkpoint(self.path / f"{name}.safetensors", model.state_dict(), metadata)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Writes ``state.pt``."""
        if self.writer:
            buffer = io.BytesIO()
            torch.save(dict(state), buffer)
            write_atomically(self.path / "state.pt", buffer.getvalue())

    def load_state(self) -> dict[str, Any]:
        """Reads ``state.pt``: tensors and plain values only, on the CPU.

        Raises:
            RecNextError: the file is damaged.
        """
        path = self.path / "state.pt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged archive raises nearly anything
            raise RecNextError(
                f"{path} is damaged ({type(error).__name__}): start anew from {self.path / 'last.safetensors'} "
                "with --checkpoint"
            ) from error

    def _write(self, name: str, text: str) -> None:
        if self.writer:
            write_atomically(self.path / name, text.encode())
