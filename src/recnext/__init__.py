"""RecNeXt: efficient vision backbones built on RecConv (arXiv 2412.19628).

``import recnext`` registers every network with timm::

    import recnext, timm
    model = timm.create_model("recnext_m1", pretrained=True)

The names below are the public library; everything else is an implementation detail of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recnext._startup import is_command
from recnext._version import __version__

if TYPE_CHECKING:
    from recnext.checkpoints import load, save
    from recnext.deploy.export import export
    from recnext.deploy.optimize import optimize
    from recnext.errors import RecNextError
    from recnext.nn.fusion import fuse, replace_batchnorm
    from recnext.nn.mixers import CausalRecConv1d, LinearAttention, RecAttn2d, RecConv1d, RecConv2d, RecConv3d
    from recnext.study.large_kernels import convert_large_kernels
    from recnext.tasks import detection, segmentation

# public name -> the module that holds it, imported on first use
_PUBLIC = {
    "RecConv2d": "nn.mixers",
    "RecConv1d": "nn.mixers",
    "RecConv3d": "nn.mixers",
    "CausalRecConv1d": "nn.mixers",
    "RecAttn2d": "nn.mixers",
    "LinearAttention": "nn.mixers",
    "fuse": "nn.fusion",
    "replace_batchnorm": "nn.fusion",
    "load": "checkpoints",
    "save": "checkpoints",
    "optimize": "deploy.optimize",
    "export": "deploy.export",
    "convert_large_kernels": "study.large_kernels",
    "RecNextError": "errors",
}

# public rooms, likewise
_ROOMS = {"detection": "tasks.detection", "segmentation": "tasks.segmentation"}

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
    "detection",
    "export",
    "fuse",
    "load",
    "optimize",
    "replace_batchnorm",
    "save",
    "segmentation",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        value = import_module(f"{__name__}.{_ROOMS[name]}")
    elif name in _PUBLIC:
        value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    else:
        raise AttributeError(f"module 'recnext' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# The command line answers --help without torch; each command imports the models itself.
if not is_command():
    import_module(f"{__name__}.nn.models")
