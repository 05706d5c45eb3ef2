"""Compiled forms and choices kept on disk, so that a second start skips exports and trials."""

import hashlib
import io
import logging
import os
import platform
import stat
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
_MARK = b"recnext compiled 1\n"  # every file starts with it, and with the SHA-256 of the rest
_START = len(_MARK) + 32
_SUFFIX = ".recnext"
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
    """The CPU's name, for a report and for the names of what is kept."""
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


def _is_private(folder: Path) -> bool:
    """Whether nobody else can have put files there; a folder that is not there yet is made so."""
    try:
        found = folder.stat()
    except OSError:
        return True
    if not hasattr(os, "getuid"):  # Windows: folders of a user are the user's
        return True
    if found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH:
        return True
    why = "everyone may write it" if found.st_uid == os.getuid() else "it belongs to another user"
    _LOG.warning("the cache %s is not used: %s; set RECNEXT_CACHE to a folder of your own", folder, why)
    return False


class Cache:
    """Files of one network; every failure to read or write costs one line of log and nothing else.

    A folder that others may write is not used: what a program runs comes from it.

    Args:
        key: of `fingerprint`.
        folder: of all networks; None keeps nothing.
    """

    def __init__(self, key: str, folder: Optional[Path]) -> None:
        self.folder = folder / key if folder is not None and _is_private(folder) else None

    def read(self, name: str) -> Optional[dict[str, bytes]]:
        """What `write` stored under a name; None if there is nothing, or nothing usable."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("cannot read the cache %s (%s); compiling anew", path, error.strerror)
            return None
        if not data.startswith(_MARK):
            self.discard(name, "is of another program or version, or damaged")
            return None
        try:
            if hashlib.sha256(data[_START:]).digest() != data[len(_MARK) : _START]:
                raise zipfile.BadZipFile
            with zipfile.ZipFile(io.BytesIO(data[_START:])) as archive:
                parts = {member: archive.read(member) for member in archive.namelist()}
        except zipfile.BadZipFile:
            self.discard(name, "is damaged")
            return None
        with suppress(OSError):
            os.utime(path)
        return parts

    def discard(self, name: str, why: str) -> None:
        """Removes a file that cannot be used, and says so."""
        if self.folder is None:
            return
        _LOG.warning("the cached %s %s; compiling anew", self._path(name), why)
        with suppress(OSError):
            self._path(name).unlink()

    def write(self, name: str, parts: Mapping[str, bytes]) -> None:
        """Stores named bytes, all of them or none."""
        if self.folder is None:
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for member, content in parts.items():
                archive.writestr(member, content)
        payload = buffer.getvalue()
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._path(name), _MARK + hashlib.sha256(payload).digest() + payload)
            _prune(self.folder.parent)
        except OSError as error:
            _LOG.warning("cannot keep compiled networks in %s (%s)", self.folder, error.strerror)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}{_SUFFIX}"


def _prune(folder: Path) -> None:
    """Removes our files beyond the limit; a folder for caches may hold those of other programs too."""
    found = ((path.stat(), path) for path in folder.glob(f"*/*{_SUFFIX}"))
    files = sorted(((info.st_mtime, info.st_size, path) for info, path in found), reverse=True)
    total = 0
    for _, size, path in files:
        total += size
        if total > LIMIT:
            path.unlink(missing_ok=True)
