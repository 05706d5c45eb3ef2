"""A run's folder: settings, metrics, weights, and the state that lets it go on.

Files: ``config.yaml``, ``recipe.yaml``, ``metrics.jsonl`` (a line an epoch), ``summary.json``, ``best.safetensors``,
``last.safetensors`` (and ``*_ema.safetensors`` when an average is kept), ``curves.png`` and ``state.pt``,
with those of epochs before in ``states/`` where they are kept. Each is replaced at once. ``state.pt`` comes last in a
save and repeats the metrics, so it alone decides where a run stands, whatever moment it was killed at.
"""

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

import torch
import yaml
from torch import Tensor

from recnext.checkpoints.metadata import CheckpointMetadata, save_checkpoint
from recnext.checkpoints.sources import EMA_RUN_FILES, RUN_FILES
from recnext.errors import RecNextError
from recnext.files import write_atomically
from recnext.text import read_text, read_yaml, to_json

from .locking import locked
from .settings import Resume

_LOCK = ".lock"
REPORT = "diverged.json"  # of a session that ended with a NaN
UNREADABLE = "unreadable.json"  # of one that ended with images that cannot be read
_FILES = (
    *("config.yaml", "recipe.yaml", "metrics.jsonl", "summary.json", "curves.png", "state.pt", REPORT, UNREADABLE),
    *RUN_FILES,
    *EMA_RUN_FILES,
)
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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it; a folder that stays empty is removed again.

        Raises:
            RecNextError: another training is at work there, or the path is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RecNextError(f"{self.path} is a file: --output expects a folder")
        if not self.writer:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / _LOCK
        try:
            with locked(lock, what=f"the run in {self.path}"):
                self._clear_up()
                yield
        finally:
            with suppress(OSError):
                if [*self.path.iterdir()] == [lock]:
                    lock.unlink()
                    self.path.rmdir()

    def _clear_up(self) -> None:
        """Removes what a run that was killed in a save left behind."""
        for name in _FILES:
            for leftover in self.path.glob(f".{name}.*.tmp"):
                leftover.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the files of a run."""
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)

    def open(self, *, resume: Resume) -> bool:
        """Whether there is a run in the folder to go on with.

        Args:
            resume: True wants a run there, False none, "auto" takes either.

        Raises:
            RecNextError: there is a run or none, against `resume`, or a file of something else would be replaced.
        """
        started = (self.path / "config.yaml").exists()
        others = [name for name in _FILES if os.path.lexists(self.path / name)]
        if started and resume is not True and not self._holds_work():
            self.read_config()  # raises where it is of something else
            started = False  # of a run that ended before it saved anything
        elif others and not started and resume is not True:
            raise RecNextError(f"{self.path / others[0]} exists and is of no run: give another --output")
        if started and not resume:
            raise RecNextError(
                f"{self.path} already holds a run: --resume goes on with it, another --output starts a new one"
            )
        if resume is True and not started:
            raise RecNextError(f"{self.path} holds no run to resume: check --output, or leave out --resume")
        if self.writer:
            (self.path / REPORT).unlink(missing_ok=True)
        return started

    def stopped_unreadable(self) -> bool:
        """Whether the session before ended with images that cannot be read, so that some may have been mended."""
        return (self.path / UNREADABLE).exists()

    def _holds_work(self) -> bool:
        return self.has_state() or any(self.path.glob("*.safetensors")) or (self.path / "metrics.jsonl").exists()

    def has_state(self) -> bool:
        """Whether anything was saved."""
        return bool(self._states())

    def read_config(self) -> dict[str, Any]:
        """The content of ``config.yaml``; empty when there is none.

        Raises:
            RecNextError: the file is damaged.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        try:
            content = read_yaml(path)
        except OSError as error:
            raise RecNextError(f"cannot read {path}: {error.strerror or error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
            raise RecNextError(f"{path} holds no settings of a run: was it edited?")
        return content

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Writes ``config.yaml``, with which a session begins."""
        if self.writer:
            (self.path / UNREADABLE).unlink(missing_ok=True)
        text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        self.write_text("config.yaml", text)

    def write_recipe(self, settings: Mapping[str, Any]) -> None:
        """Writes ``recipe.yaml``: the settings alone, to start a run like this one with ``--config``."""
        recipe = {key: value for key, value in settings.items() if key not in ("output", "resume")}
        self.write_text("recipe.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))

    def write_metrics(self, records: Sequence[Record]) -> None:
        """Writes ``metrics.jsonl``."""
        self.write_text("metrics.jsonl", "".join(to_json(record) + "\n" for record in records))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes ``summary.json``."""
        self.write_text("summary.json", to_json(summary, indent=2) + "\n")

    def save_weights(self, name: str, weights: Mapping[str, Tensor], metadata: CheckpointMetadata) -> None:
        """Writes ``NAME.safetensors``."""
        if self.writer:
            save_checkpoint(self.path / f"{name}.safetensors", weights, metadata)

    def save_state(self, state: Mapping[str, Any], *, number: Optional[int] = None, keep: int = 1) -> None:
        """Writes ``state.pt``.

        Args:
            state: tensors and plain values.
            number: of the epoch that has ended, with which this state is to be kept with older ones.
            keep: how many of these stay.
        """
        if not self.writer:
            return
        newest = self.path / "state.pt"
        write_atomically(newest, pack_state(state))
        if number is None or keep == 1:
            return
        kept = self.path / "states" / f"epoch_{number:04d}.pt"
        kept.parent.mkdir(exist_ok=True)
        kept.unlink(missing_ok=True)
        try:
            os.link(newest, kept)
        except OSError:  # a file system without links
            shutil.copyfile(newest, kept)
        for old in sorted(kept.parent.glob("epoch_*.pt"))[:-keep]:
            with suppress(OSError):
                old.unlink()

    def _states(self) -> list[Path]:
        """Saved states, the newest first."""
        newest = self.path / "state.pt"
        older = sorted((self.path / "states").glob("epoch_*.pt"), reverse=True)
        return [newest, *older] if newest.exists() else older

    def load_state(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Reads the newest state that is undamaged: tensors and plain values only, on the CPU.

        Returns:
            The state, and a line for each that was damaged.

        Raises:
            RecNextError: all are damaged.
        """
        notes: list[str] = []
        for path in self._states():
            try:
                state = unpack_state(path.read_bytes())
            except Exception as error:  # a damaged archive raises nearly anything
                notes.append(f"{path} is damaged ({str(error) or type(error).__name__})")
            else:
                return state, tuple(f"{note}: resuming from {path}" for note in notes)
        raise RecNextError(f"{notes[0]}: start again from {self.path / 'last.safetensors'} with --checkpoint")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of the folder, all of it or nothing."""
        if self.writer:
            write_atomically(self.path / name, text.encode())


def pack_state(state: Mapping[str, Any]) -> bytes:
    """A file of `torch.save` that ends with its own SHA-256, as the comment of its archive.

    PyTorch reads tensors without their checksums, so that a changed bit would go unnoticed.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).digest()
    return content[:-2] + len(digest).to_bytes(2, "little") + digest  # the last two bytes: length of the comment


def unpack_state(content: bytes) -> dict[str, Any]:
    """What `pack_state` packed: tensors and plain values only, on the CPU.

    Raises:
        ValueError: its checksum is another.
        Exception: of many kinds, by `torch.load`.
    """
    size = hashlib.sha256().digest_size
    plain = content[: -size - 2] + bytes(2)
    if hashlib.sha256(plain).digest() != content[-size:]:
        raise ValueError("its checksum is another")
    state = torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it holds no state of a run")
    return state


def read_records(path: Path) -> list[Record]:
    """The lines of a run's ``metrics.jsonl``; JSON's null is a number that is not finite.

    Args:
        path: the run folder or the file.

    Raises:
        RecNextError: there is no such file, it is empty or damaged.
    """
    file = path / "metrics.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise RecNextError(f"{file} does not exist: expected a run folder with an epoch done, or its metrics.jsonl")
    try:
        records = [json.loads(line, object_hook=_with_nan) for line in read_text(file).splitlines()]
    except RecNextError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecNextError(f"{file} is not JSON, a line a record: {error}") from None
    needed = {"epoch", "step", "train_loss", "images_per_second"}
    if not records or not all(isinstance(record, dict) and needed <= record.keys() for record in records):
        raise RecNextError(f"{file} holds no records of a run: expected {', '.join(sorted(needed))} in each line")
    return records


def _with_nan(record: Record) -> Record:
    """A metric that could not be measured is null in JSON."""
    return {key: math.nan if value is None else value for key, value in record.items()}
