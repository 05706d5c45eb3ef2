"""The networks work where timm and PyTorch have moved the names that they do not promise."""

import subprocess
import sys

import pytest
import timm
import torch

import recnext  # noqa: F401 (registers the networks)
from recnext import RecNextError

PROGRAM = """
import torch, timm
import timm.models._input, timm.models._features, torch._C._functorch
del timm.models._input.update_model_args, timm.models._features.feature_take_indices
del torch._C._functorch.peek_interpreter_stack
import recnext
x = torch.randn(2, 3, 64, 64)
for name in ("test_recnext_m", "test_recnext_a", "test_recnext_l", "mlla_nano_recattn"):
    model = timm.create_model(name, num_classes=4).eval()
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    assert len(model.forward_intermediates(x, indices=[1, -1])[1]) == 2
    assert recnext.fuse(model)(x).shape == (2, 3)
"""


def test_names_that_are_gone_do_not_stop_the_networks() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["test_recnext_m", "test_recnext_l", "mlla_nano_recattn"])
def test_output_stride_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(RecNextError, match="output_stride=16 asks for dilated stages"):
        timm.create_model(name, features_only=True, output_stride=16)
    assert timm.create_model(name, features_only=True, output_stride=32) is not None


@pytest.mark.parametrize("indices", [[4], [-5], 5, 0, []])
def test_stages_that_are_not_there(indices: object) -> None:
    model = timm.create_model("test_recnext_m")
    with pytest.raises(RecNextError, match="the network has 4 stages, 0 to 3"):
        model.forward_intermediates(torch.randn(1, 3, 64, 64), indices=indices)
