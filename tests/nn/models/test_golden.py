"""Every published network gives the published numbers.

Oracle: tests/golden/models.json, computed once with the published code on the weights of golden_fill.
"""

import hashlib

import pytest
import timm
import torch

import recnext
from golden_fill import assert_golden, fill, golden, golden_input
from recnext.nn.fusion import batchnorms

DATA = golden()
NAMES = [name for name in DATA["models"] if name.startswith("recnext")]
FUSED_PARAMS = {  # of M and A with every norm folded: the published fusion leaves some
    f"recnext_{series}{i}": count
    for series, counts in {
        "m": (2497280, 5151016, 6848232, 8208104, 14063464, 22872040),
        "a": (2774080, 5891368, 7883560, 9028624, 15748704, 25672370),
    }.items()
    for i, count in enumerate(counts)
}


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_network_equals_published(name: str) -> None:
    expected = DATA["models"][name]
    model = timm.create_model(name).eval()
    state = model.state_dict()
    assert count(model) == expected["params"]
    assert len(state) == expected["state_dict_entries"]
    layout = "\n".join(f"{key}:{tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256(layout.encode()).hexdigest() == expected["state_dict_sha256"]

    fill(model)
    x = golden_input((DATA["batch"], 3, *DATA["size"]))
    with torch.inference_mode():
        last, features = model.forward_intermediates(x)
        logits = model.forward_head(last)
        assert_golden(last, expected["forward_features"])
        for feature, stage in zip(features, expected["features"], strict=True):
            assert_golden(feature, stage)
        assert_golden(logits, expected["logits"])

        fused = recnext.fuse(model)
        fused_logits = fused(x)
    assert_golden(fused_logits, expected["fused_logits"])
    error = (fused_logits - logits).abs().max() / (logits.max() - logits.min())
    assert error < 1e-4
    assert batchnorms(fused) == []
    assert count(fused) == FUSED_PARAMS.get(name, expected["reference_fused_params"])


@pytest.mark.parametrize("name", [name for name in NAMES if "train_logits" in DATA["models"][name]])
def test_training_pair_and_gradients_equal_published(name: str) -> None:
    expected = DATA["models"][name]
    model = fill(timm.create_model(name, distillation=True)).train()
    logits, dist_logits = model(golden_input((DATA["batch"], 3, *DATA["size"])))
    assert_golden(logits, expected["train_logits"])
    assert_golden(dist_logits, expected["train_logits_dist"])

    (logits.square().mean() + dist_logits.square().mean()).backward()
    norm = torch.stack([p.grad.double().square().sum() for p in model.parameters()]).sum().sqrt()
    assert norm.item() == pytest.approx(expected["train_grad_norm"], rel=1e-3)
    # single elements carry float32 noise up to 5e-3 of the mean magnitude
    first = model.stem.stem[0].conv.weight.grad
    assert_golden(first, expected["train_grad_first_conv"], tolerance=5e-3, relative_to="abs_sum")
