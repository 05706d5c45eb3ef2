"""Folding of every BatchNorm into its neighbours, for inference."""

from copy import deepcopy
from typing import TypeVar

from timm.utils import reparameterize_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Model = TypeVar("Model", bound=nn.Module)


def replace_batchnorm(model: Model) -> Model:
    """Folds the BatchNorms of every RecNeXt part of a model, in place, and returns it.

    Covers ConvNorm, the norms after RecConv and in downsamples, the rep mixer and both heads (into one
    Linear). Works on networks, on ``features_only`` backbones and on models that hold them; doing it twice
    changes nothing. The result equals the original in eval mode, up to rounding.

    Args:
        model: any module. A lone ConvNorm cannot be replaced in place: use its ``fuse()``.
    """
    return reparameterize_model(model, inplace=True)


def fuse(model: Model) -> Model:
    """A copy for inference: eval mode, no BatchNorm, fewer parameters, equal outputs up to rounding.

    Args:
        model: a network of any family, a ``features_only`` backbone, or a model that holds one; fused already
            is harmless.

    Returns:
        The copy; the original stays as it is.
    """
    return replace_batchnorm(deepcopy(model).eval())


def batchnorms(model: nn.Module) -> list[str]:
    """Names of the BatchNorms that a model holds; none after ``fuse`` of our networks."""
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
