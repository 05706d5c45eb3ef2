"""Compiled forms and choices kept on disk, so that a second start skips exports and trials."""

import hashlib
import io
import logging
import os
import platform
import sys
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

import torch
from torch import nn

from recnext.files import write_atomically

_LOG = logging.getLogger("recnext")
_DIGEST = 32  # bytes of the SHA-256 that every file starts with
LIMIT = 2 * 2**30
"""Bytes that the folder may hold; the least recently used files beyond are removed."""


def cache_folder() -> Optional[Path]:
    """$RECNEXT_CACHE, or the platform's folder for caches; None where the variable is "off"."""
    chosen = os.environ.get("RECNEXT_CACHE")
    if chosen:
        return None if chosen == "off" else Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "recnext" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "recnext"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recnext"


def processor() -> str:
    """The CPU's name, for a report and to tell machines apart."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def fingerprint(model: nn.Module, details: Sequence[object]) -> str:
    """Hexadecimal digest of a network's layers and weights and of whatever else its compiled form depends on."""
    digest = hashlib.sha256()
    for part in (type(model).__qualname__, repr(model), *details):
        digest.update(f"{part}\0".encode())
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()[:40]


class Cache:
    """Files of one network; every failure to read or write costs one line of log and nothing else.

    Args:
        key: of `fingerprint`.
        folder: of all networks; None keeps nothing.
    """

    def __init__(self, key: str, folder: Optional[Path]) -> None:
        self.folder = None if folder is None else folder / key

    def read(self, name: str) -> Optional[dict[str, bytes]]:
        """What `write` stored under a name; None if there is nothing whole."""
        if self.folder is None:
            return None
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("cannot read the cache %s (%s); compiling anew", path, error.strerror)
            return None
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            self.discard(name, "is damaged")
            return None
        with suppress(OSError):
            os.utime(path)
        with zipfile.ZipFile(io.BytesIO(data[_DIGEST:])) as archive:
            return {member: archive.read(member) for member in archive.namelist()}

    def discard(self, name: str, why: str) -> None:
        """Removes a file that cannot be used, and says so."""
        if self.folder is None:
            return
        _LOG.warning("the cached %s %s; compiling anew", self.folder / name, why)
        with suppress(OSError):
            (self.folder / name).unlink()

    def write(self, name: str, parts: Mapping[str, bytes]) -> None:
        """Stores named bytes, whole or not at all."""
        if self.folder is None:
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for member, content in parts.items():
                archive.writestr(member, content)
        payload = buffer.getvalue()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / name, hashlib.sha256(payload).digest() + payload)
            _prune(self.folder.parent)
        except OSError as error:
            _LOG.warning("cannot keep compiled networks in %s (%s)", self.folder, error.strerror)


def _prune(folder: Path) -> None:
    files = sorted(
        ((stat.st_mtime, stat.st_size, path) for path in folder.glob("*/*") for stat in [path.stat()]), reverse=True
    )
    total = 0
    for _, size, path in files:
        total += size
        if total > LIMIT:
            path.unlink(missing_ok=True)
