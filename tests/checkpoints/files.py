"""Weight files as others write them, made from the tiny networks."""

import argparse
import copy
import pathlib
import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from golden_fill import fill
from recnext.checkpoints.fitting import fold_as_published

TINY = ("test_recnext_m", "test_recnext_a", "test_recnext_l")


def network(name: str = "test_recnext_m", **arguments) -> nn.Module:
    return fill(timm.create_model(name, **{"num_classes": 7, **arguments})).eval()


def image(size: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def training_file(path: Path, model: nn.Module, ema: nn.Module | None = None) -> Path:
    """As published training runs write them."""
    arguments = argparse.Namespace(model="recnext", lr=1e-3, output_dir=pathlib.Path("checkpoints"), eps=np.float64(1))
    content = {
        "model": model.state_dict(),
        "model_ema": None if ema is None else ema.state_dict(),
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
        "epoch": 299,
        "args": arguments,
    }
    torch.save(content, path)
    return path


def published_fused_file(path: Path, model: nn.Module) -> Path:
    """TorchScript with ConvNorms, rep mixers and heads folded, and the lone norms left."""
    folded = copy.deepcopy(model).eval()
    fold_as_published(folded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(folded).save(str(path))
    return path


def relative_difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / (expected.max() - expected.min()))
