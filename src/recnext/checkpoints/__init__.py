"""Reading weights from anywhere and writing them as safetensors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load
    from .metadata import CheckpointMetadata, read_metadata
    from .saving import convert, save

__all__ = ["CheckpointMetadata", "convert", "load", "read_metadata", "save"]

# the module of each name, imported on first use: `recnext list` reads what is published and needs no torch
_MODULES = {"CheckpointMetadata": "metadata", "read_metadata": "metadata", "convert": "saving", "save": "saving"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'loading')}"), name)
