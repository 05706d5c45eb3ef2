"""Folding of every BatchNorm into its neighbours, for inference."""

from copy import deepcopy
from typing import TypeVar, cast

from torch import nn

Model = TypeVar("Model", bound=nn.Module)

_PACKAGES = ("recnext", "timm")  # whose modules keep timm's protocol; another library's fuse() means something else


def replace_batchnorm(model: Model) -> Model:
    """Folds the BatchNorms of every RecNeXt and timm part of a model, in place, and returns it.

    Covers ConvNorm, the norms after RecConv and in downsamples, the rep mixer and both heads (into one
    Linear). Works on networks, on ``features_only`` backbones and on models that hold them; doing it twice
    changes nothing. The result equals the original in eval mode, up to rounding. Parts of other libraries
    stay as they are: `batchnorms` names what is left.

    Args:
        model: any module. A lone ConvNorm cannot be replaced in place: use its ``fuse()``.

    Raises:
        RecNextError: adapters, such as LoRA, have not been merged into their layers.
    """
    for name, child in model.named_children():
        setattr(model, name, replace_batchnorm(_fused(child)))
    return model


def _fused(module: nn.Module) -> nn.Module:
    """The module after timm's protocol: ``fuse()`` gives its replacement, the other two change it in place."""
    for method in ("fuse", "reparameterize", "switch_to_deploy"):
        if any(c.__module__.partition(".")[0] in _PACKAGES and method in vars(c) for c in type(module).__mro__):
            result = getattr(module, method)()
            return cast(nn.Module, result) if method == "fuse" else module
    return module


def fuse(model: Model) -> Model:
    """A copy for inference: eval mode, no BatchNorm, fewer parameters, equal outputs up to rounding.

    Args:
        model: a network of any family, a ``features_only`` backbone, or a model that holds one; fused already
            is harmless.

    Returns:
        The copy; the original stays as it is.

    Raises:
        RecNextError: adapters, such as LoRA, have not been merged into their layers.
    """
    return replace_batchnorm(deepcopy(model).eval())


def batchnorms(model: nn.Module) -> list[str]:
    """Names of the BatchNorms that a model holds; after `fuse`, those that could not be folded: none of ours."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]
