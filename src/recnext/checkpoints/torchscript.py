"""The tensors of a TorchScript archive, read without its programs: an index and storages in a zip file."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recnext.errors import RecNextError

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


class _Object:
    """A module or another object of a program, of which only the attributes are kept."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise RecNextError("a part of it is restored by a program in the file, which is not run")
        self.attributes = state


class _Index(pickle.Unpickler):
    """Reads ``data.pkl``; every name in it stands for one of the few things below, and none of them can act.

    Args:
        archive: of the file.
        root: folder in the archive.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(read_stored(archive, f"{root}/data.pkl")))
        self.archive = archive
        self.root = root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Object
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _strided
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda tensor, *_: tensor
        if module == "torch.jit._pickle" and name in (*_LISTS, "restore_type_tag"):
            return lambda value, *_: value
        if module == "collections" and name == "OrderedDict":
            return dict
        raise RecNextError(f"it needs the Python object {module}.{name}, and loading it could run any program")

    def persistent_load(self, pid: Any) -> Tensor:
        """The storage that ('storage', dtype, key, device, length) names."""
        _, dtype, key, *_ = pid
        if key not in self.storages:
            data = bytearray(read_stored(self.archive, f"{self.root}/data/{key}"))
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]


def _strided(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def read_stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of an archive of torch's, which are never compressed: so it is no larger than the file."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise RecNextError(f"its {name} is compressed, as torch writes none")
    return archive.read(name)


def read_state(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by name, as ``torch.jit.load(path).state_dict()`` gives them, on the CPU.

    Raises:
        RecNextError: an object in the file is none of tensors, numbers, containers and modules.
        Exception: of many kinds, where the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        index = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        top = _Index(archive, index.partition("/")[0]).load()
    state: dict[str, Tensor] = {}
    _collect(top, "", state, depth=0)
    return state


def _collect(module: Any, prefix: str, state: dict[str, Tensor], *, depth: int) -> None:
    if depth > 100:
        raise RecNextError("its modules are nested in a circle")
    attributes: Mapping[Any, Any] = getattr(module, "attributes", {})
    state.update({f"{prefix}{key}": value for key, value in attributes.items() if isinstance(value, Tensor)})
    for key, value in attributes.items():
        if isinstance(value, _Object):
            _collect(value, f"{prefix}{key}.", state, depth=depth + 1)
