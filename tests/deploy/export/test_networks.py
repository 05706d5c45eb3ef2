"""Every published network to ONNX, and one of each family at full depth with any batch and size."""

import pytest
import torch

from recnext.checkpoints import load
from recnext.checkpoints.published import published
from recnext.deploy.export import described, export_to, target

FAMILIES = ("recnext_m1", "recnext_a1", "recnext_t", "recnext_t_share_channel")
OTHERS = sorted(set(published()["classification"]) - set(FAMILIES))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_full_depth(name, tmp_path):
    """The program is made once; OpenVINO's file comes from the same."""
    torch.manual_seed(0)
    network = load(name)
    spec = described(network, size=(96, 96))
    for format in ("onnx", "openvino"):
        made = export_to(target(format), network, spec, tmp_path, threads=1)
        assert made.problem == ""
        assert made.contents.inputs[0].shape == (None, 3, None, None)
        assert len(made.comparisons) == 4
        assert all(row.agreement == 1 for row in made.comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_network(name, tmp_path):
    torch.manual_seed(0)
    network = load(name)
    spec = described(network, size=(64, 64), dynamic_batch=False, dynamic_size=False)
    made = export_to(target("onnx"), network, spec, tmp_path, threads=1)
    assert made.problem == ""
