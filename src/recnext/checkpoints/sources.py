"""From what a user calls a checkpoint to a file on this machine: a path, a run folder or a hub id."""

import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from recnext.errors import RecNextError

RUN_FILES = ("best.safetensors", "last.safetensors")  # what a run folder holds, the better first
EMA_RUN_FILES = ("best_ema.safetensors", "last_ema.safetensors")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # what a hub repository or a copy of one holds
_HUB_PREFIXES = ("hf-hub:", "hf_hub:")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def find_file(checkpoint: str, *, ema: bool = False) -> Path:
    """The weight file that a path, a run folder or a hub id stands for; downloads from the hub if need be.

    With `ema`, a run folder stands for the file of its moving average; other places hold one file, with or
    without an average in it.

    Raises:
        RecNextError: there is none, or the hub cannot be reached.
    """
    for prefix in _HUB_PREFIXES:
        if checkpoint.startswith(prefix):
            return _hub_file(checkpoint.removeprefix(prefix))
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return _in_folder(path, ema=ema)
    if path.exists():
        return path
    missing = f"no checkpoint {checkpoint}: no such file or run folder{_neighbours(path)}"
    is_id = _HUB_ID.fullmatch(checkpoint) and not checkpoint.startswith(".")
    if not is_id or path.suffix.lower() in WEIGHT_SUFFIXES or path.parent.is_dir():
        hint = f"; on the hub it would be hf-hub:{checkpoint}" if is_id and not path.suffix else ""
        raise RecNextError(f"{missing}{hint}")
    try:
        return _hub_file(checkpoint)
    except RecNextError as error:
        raise RecNextError(f"{missing}; on the hub: {error}") from None


def _in_folder(folder: Path, *, ema: bool) -> Path:
    names = EMA_RUN_FILES if ema else (*RUN_FILES, *HUB_FILES)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if ema and any((folder / name).is_file() for name in RUN_FILES):
        raise RecNextError(f"{folder} holds no moving average (EMA): the run kept none; load without ema")
    raise RecNextError(f"{folder} holds no weights: expected {' or '.join(names[:2])} of a run")


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" ({path.parent} does not exist)"
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in WEIGHT_SUFFIXES)[:3]
    return f"; {path.parent} has {', '.join(names)}" if names else ""


def _hub_file(identifier: str) -> Path:
    """The weight file of ``owner/name`` or ``owner/name@revision``, from the cache where it is there."""
    repository, _, revision = identifier.partition("@")
    cached = _download(repository, revision or None, HUB_FILES, local=True)
    if cached is None:
        _require_hub(identifier)
        cached = _download(repository, revision or None, HUB_FILES, local=False)
        if cached is None:
            raise RecNextError(f"{identifier} on the hub holds neither {' nor '.join(HUB_FILES)}")
        _download(repository, revision or None, ("config.json",), local=False)  # beside it in the cache
    return cached


def _download(repository: str, revision: Optional[str], names: Sequence[str], *, local: bool) -> Optional[Path]:
    """The first of `names` that the repository holds, or with `local` the cache; None without any."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for name in names:
        try:
            with quiet():
                return Path(hf_hub_download(repository, name, revision=revision, local_files_only=local))
        except LocalEntryNotFoundError as error:
            if not local:
                raise _unreachable(repository, error) from None
        except EntryNotFoundError:
            continue
        except HFValidationError:
            raise RecNextError(f"{repository!r} is no hub id: expected owner/name") from None
        except HfHubHTTPError as error:
            if getattr(error.response, "status_code", None) in (401, 403, 404):
                raise RecNextError(
                    f"the hub has no {repository}, or it needs a login, and there is no such file here"
                ) from None
            raise _unreachable(repository, error) from None
        except OSError as error:
            raise _unreachable(repository, error) from None
    return None


def _require_hub(identifier: str) -> None:
    """Without a name service there is no network: say so now, not after half a minute of retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _unreachable(identifier, "offline mode is set")
    if any(name.lower() in ("https_proxy", "all_proxy", "http_proxy") for name in os.environ):
        return  # the proxy looks names up
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        raise _unreachable(identifier, "there seems to be no network") from None


def _unreachable(identifier: str, reason: object) -> RecNextError:
    return RecNextError(
        f"cannot fetch {identifier} from the hub ({str(reason).splitlines()[0].rstrip('.')}): download its "
        f"{HUB_FILES[0]} where there is a network, and give that file as the checkpoint (--checkpoint FILE)"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Our one line says it; the hub library's own retries need not be seen."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
