"""Reading PyTorch files without ever running what is in them."""

import argparse
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor

from recnext.checkpoints.torchscript import read_state
from recnext.errors import RecNextError

# What training programs put beside the tensors: their arguments, paths and NumPy numbers. Nothing here can act:
# paths become pure ones, which never touch the file system.
_scalar = np.float64(0).__reduce__()[0]
_ALLOWED: list[Union[Callable[..., Any], tuple[Callable[..., Any], str]]] = [
    argparse.Namespace,
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("?", "i1", "u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8")),
]
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_pickle(path: Path) -> Any:
    """Reads a file of `torch.save` with tensors, containers, numbers and an argparse Namespace in it.

    Tensors come on the CPU, mapped from the file where its format allows.

    Raises:
        RecNextError: the file needs any other class, or is damaged.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unusual pickle protocol
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        if found is None:
            raise RecNextError(f"{path} is no file of tensors, or a damaged one; is it the right file?") from None
        raise RecNextError(
            f"{path} needs the Python object {found[1]}, and loading it could run any program: refused; "
            "save its state dict alone (torch.save(model.state_dict(), FILE)) or as safetensors"
        ) from None
    except Exception as error:  # a damaged file makes torch raise errors of many kinds
        raise _damaged(path, error) from None


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of a TorchScript file, on the CPU; no program in it runs.

    Raises:
        RecNextError: the file is damaged, cannot be read without running it, or is frozen: then its weights are
            constants without names.
    """
    try:
        state = read_state(path)
    except RecNextError as error:
        raise RecNextError(f"{path} is refused: {error}; take the weights as safetensors") from None
    except Exception as error:  # as above
        raise _damaged(path, error) from None
    if not state:
        raise RecNextError(
            f"{path} is a frozen TorchScript program, whose weights have no names; "
            "take the file it was made from, or the unfrozen program"
        )
    return state


def _damaged(path: Path, error: Exception) -> RecNextError:
    reason = str(error).strip().splitlines()
    return RecNextError(
        f"{path} is damaged or cut off{f' ({reason[0][:120]})' if reason else ''}; download or copy it again"
    )
