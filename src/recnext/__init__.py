"""RecNeXt: efficient vision backbones built on RecConv (arXiv 2412.19628).

``import recnext`` registers every network with timm::

    import recnext, timm
    model = timm.create_model("recnext_m1", pretrained=True)

The names below are the public library; everything else is an implementation detail of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._startup import is_command
from ._version import __version__

if TYPE_CHECKING:
    from .backends import optimize
    from .checkpoints import load, save
    from .conversion import convert_large_kernels
    from .errors import RecNextError
    from .fusion import fuse, replace_batchnorm
    from .mixers import CausalRecConv1d, LinearAttention, RecAttn2d, RecConv1d, RecConv2d, RecConv3d

# public name -> the module that holds it, imported on first use
_PUBLIC = {
    "RecConv2d": "mixers",
    "RecConv1d": "mixers",
    "RecConv3d": "mixers",
    "CausalRecConv1d": "mixers",
    "RecAttn2d": "mixers",
    "LinearAttention": "mixers",
    "fuse": "fusion",
    "replace_batchnorm": "fusion",
    "load": "checkpoints",
    "save": "checkpoints",
    "convert_large_kernels": "conversion",
    "RecNextError": "errors",
    "optimize": "backends",
}

__all__ = [
    "CausalRecConv1d",
    "LinearAttention",
    "RecAttn2d",
    "RecConv1d",
    "RecConv2d",
    "RecConv3d",
    "RecNextError",
    "__version__",
    "convert_large_kernels",
    "fuse",
    "load",
    "optimize",
    "replace_batchnorm",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'recnext' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# The command line answers --help without torch; each command imports the models itself.
if not is_command():
    import_module(f"{__name__}.models")
