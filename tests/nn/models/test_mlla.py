"""MLLA: golden values, timm's contract, sizes, rotary angles, compilers."""

import hashlib
from itertools import chain

import pytest
import timm
import torch
from torch import Tensor, nn

from golden_fill import assert_golden, fill, golden, golden_input
from recnext.errors import RecNextError
from recnext.nn.mixers import RecConv2d
from recnext.nn.models.mlla import Mlla, checkpoint_filter_fn
from recnext.nn.models.mlla_blocks import RotaryAttention, rotate, rotations

AGGREGATIONS = ["recconv_nearest", "recconv_transposed", "recattn", "recattn_rope"]
OTHERS = ["recconv_transposed", "recattn"]  # what the sweep of test_contract.py leaves
GOLDEN = {name: values for name, values in golden()["models"].items() if name.startswith("mlla")}


def small(aggregation: str, **kwargs: object) -> Mlla:
    sizes = {"embed_dim": 16, "depths": (1, 2, 1, 1), "num_heads": (2, 2, 4, 8), "num_classes": 7, "img_size": 64}
    return timm.create_model(f"mlla_nano_{aggregation}", **{**sizes, **kwargs}).eval()


def image(height: int = 64, width: int = 64, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str) -> None:
    expected, model = GOLDEN[name], timm.create_model(name).eval()
    state = model.state_dict()
    keys = "\n".join(f"{key}:{tuple(value.shape)}" for key, value in state.items())
    assert sum(p.numel() for p in model.parameters()) == expected["params"]
    assert len(state) == expected["state_dict_entries"]
    assert hashlib.sha256(keys.encode()).hexdigest() == expected["state_dict_sha256"]
    with torch.no_grad():
        logits = fill(model)(golden_input((2, 3, 256, 256)))
    assert_golden(logits, expected["logits"], tolerance=1e-4)


@pytest.mark.parametrize(("name", "count"), [("nano", 4076232), ("mini", 14489032)])
def test_transposed_parameters_as_published(name: str, count: int) -> None:
    model = timm.create_model(f"mlla_{name}_recconv_transposed", device="meta")
    assert sum(p.numel() for p in model.parameters()) == count


def test_drop_path_is_linear_and_a_downsample_takes_its_layers_last() -> None:
    model = timm.create_model("mlla_mini_recconv_nearest", device="meta")
    rates = [[getattr(b.drop_path, "drop_prob", 0.0) for b in layer.blocks] for layer in model.layers]
    expected = torch.linspace(0, 0.2, 18).tolist()
    assert list(chain.from_iterable(rates)) == pytest.approx(expected)
    assert [layer.downsample.drop_path.drop_prob for layer in model.layers[:-1]] == [r[-1] for r in rates[:-1]]


def test_levels_fall_with_the_resolution() -> None:
    model = small("recconv_nearest")
    levels = [[b.agg.level for b in layer.blocks] for layer in model.layers]
    assert levels == [[4], [3, 3], [2], [1]]
    assert [layer.downsample.agg.level for layer in model.layers[:-1]] == [3, 2, 1]
    assert all(m.mode == "nearest" for m in model.modules() if isinstance(m, RecConv2d))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_feature_maps(aggregation: str) -> None:
    model = small(aggregation)
    x = image(128, 64)
    last, maps = model.forward_intermediates(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 16), (32, 16, 8), (64, 8, 4), (128, 4, 2)]
    torch.testing.assert_close(last, model.forward_features(x))
    torch.testing.assert_close(maps[-1], last)
    assert len(model.forward_intermediates(x, indices=[1], stop_early=True, intermediates_only=True)) == 1
    normed = model.forward_intermediates(x, norm=True, intermediates_only=True)[-1]
    torch.testing.assert_close(normed.mean(1), torch.zeros(1, 4, 2), atol=1e-5, rtol=0)

    features = small(aggregation, features_only=True, out_indices=(0, 2))
    assert features.feature_info.channels() == [16, 64]
    assert features.feature_info.reduction() == [4, 16]
    state = model.state_dict()
    features.model.load_state_dict({k: state[k] for k in features.model.state_dict()})
    for ours, theirs in zip(features(x), [maps[0], maps[2]], strict=True):
        torch.testing.assert_close(ours, theirs)

    fx = small(aggregation, features_only=True, feature_cls="fx")
    fx.graph_module.load_state_dict({k: state[k] for k in fx.graph_module.state_dict()})
    for ours, theirs in zip(fx(x), maps, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_pruning_keeps_the_features() -> None:
    model, x = small("recattn_rope"), image()
    expected = model.forward_intermediates(x, indices=[0, 2], intermediates_only=True)
    assert model.prune_intermediate_layers([0, 2]) == [0, 2]
    assert len(model.layers) == 3
    assert model.num_features == 64
    torch.testing.assert_close(model.forward_intermediates(x, indices=[0, 2], intermediates_only=True), expected)
    torch.testing.assert_close(model(x), expected[1])


def test_head() -> None:
    model, x = small("recconv_nearest", drop_rate=0.3), image(batch=2)
    assert model.get_classifier() is model.head
    assert model(x).shape == (2, 7)
    pre_logits = model.forward_head(model.forward_features(x), pre_logits=True)
    torch.testing.assert_close(model.head(pre_logits), model(x))
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), pre_logits)
    model.reset_classifier(0, "")
    assert model(x).shape == (2, 128, 2, 2)
    model.reset_classifier(5, "")
    assert model(x).shape == (2, 5, 2, 2)
    assert small("recconv_nearest", num_classes=0, global_pool="")(x).shape == (2, 128, 2, 2)
    assert model.pretrained_cfg["classifier"] == "head"
    with pytest.raises(RecNextError, match="'max' must be"):
        model.reset_classifier(3, "max")
    with pytest.raises(RecNextError, match="'conv' must be one of"):
        Mlla("conv")


def test_other_channels_and_groups() -> None:
    model = small("recattn", in_chans=1)
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 7)
    assert model.no_weight_decay() == set()
    for coarse in (False, True):
        groups = timm.models._manipulate.group_parameters(model, model.group_matcher(coarse), reverse=True)
        assert len(groups) == sum(1 for _ in model.parameters())
        assert groups["patch_embed.conv1.conv.weight"] == 0
        assert groups["head.weight"] == max(groups.values())
        depths = [groups[f"layers.{i}.blocks.0.i_proj.weight"] for i in range(4)]
        assert depths == sorted(set(depths))
        assert groups["layers.0.downsample.i_proj.weight"] < depths[1] + coarse


@pytest.mark.parametrize("aggregation", OTHERS)
def test_checkpointing_gives_the_same_gradients(aggregation: str) -> None:
    model, x = small(aggregation).train(), image(batch=2)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        assert all(bool(g.any()) for g in gradients[-1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("aggregation", ["recattn", "recattn_rope"])
@pytest.mark.parametrize("size", [(33, 47), (95, 160), (224, 224)])
def test_any_size(aggregation: str, size: tuple[int, int]) -> None:
    model = small(aggregation)
    state_before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        assert bool(model(image(*size)).isfinite().all())
    torch.testing.assert_close(model.state_dict(), state_before, rtol=0, atol=0)


def test_transposed_names_the_sizes_it_takes() -> None:
    model = small("recconv_transposed")
    with pytest.raises(RecNextError, match=r"224x250 pixels.*multiples of 64; resize to 256x256"):
        model(image(224, 250))
    with pytest.raises(RecNextError, match="recconv_nearest"):
        model.forward_intermediates(image(96, 64))
    assert model(image(128, 64)).shape == (1, 7)


def test_rotations_as_stated() -> None:
    turns = rotations(3, 5, 8, torch.empty(0))
    assert turns.shape == (3, 5, 4, 2)
    for row, column, pair in [(2, 4, 0), (2, 4, 1), (2, 4, 2), (1, 3, 3)]:
        angle = (row if pair < 2 else column) * 10000.0 ** (-(pair % 2) / 2)
        expected = [float(torch.tensor(angle).cos()), float(torch.tensor(angle).sin())]
        assert turns[row, column, pair].tolist() == pytest.approx(expected, abs=1e-6)


def test_rotation_is_of_adjacent_pairs_and_relative() -> None:
    turns = rotations(4, 6, 8, torch.empty(0))
    q, k = torch.randn(8), torch.randn(8)
    pairs = torch.view_as_complex(q.reshape(4, 2)) * torch.view_as_complex(turns[2, 3].contiguous())
    turned = rotate(q[None, :, None, None].expand(1, 8, 4, 6), turns)
    torch.testing.assert_close(turned[0, :, 2, 3], torch.view_as_real(pairs).flatten())
    other = rotate(k[None, :, None, None].expand(1, 8, 4, 6), turns)
    near, far = turned[0, :, 1, 2] @ other[0, :, 0, 1], turned[0, :, 3, 5] @ other[0, :, 2, 4]
    torch.testing.assert_close(near, far)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (9, 2)])
def test_rotary_attention_does_not_depend_on_the_stored_extent(size: tuple[int, int]) -> None:
    small_one = RotaryAttention(8, 2, (4, 4))
    large_one = RotaryAttention(8, 2, (16, 16))
    large_one.load_state_dict({**small_one.state_dict(), "rope.rotations": large_one.rope.rotations})
    x = torch.randn(1, 8, *size)
    torch.testing.assert_close(small_one(x), large_one(x))


def test_rotary_attention_equals_the_quadratic_form() -> None:
    attention = RotaryAttention(8, 2, (4, 4)).double()
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    q, k = (nn.functional.elu(attention.qk(x)) + 1).chunk(2, 1)
    turns = rotations(4, 4, 8, torch.empty(0)).double()
    expected = attention.lepe(x)
    for head in (slice(0, 4), slice(4, 8)):
        flat = [t[0, head].flatten(1) for t in (q, k, rotate(q, turns), rotate(k, turns), x)]
        scores = flat[2].T @ flat[3] / (flat[0].T @ flat[1].mean(1, keepdim=True) + 1e-6) / 16
        expected[0, head] += (scores @ flat[4].T).T.reshape(4, 4, 4)
    torch.testing.assert_close(attention(x), expected, rtol=1e-6, atol=1e-6)


def test_weights_of_another_image_size_load() -> None:
    model = small("recattn_rope", img_size=128)
    state = checkpoint_filter_fn(small("recattn_rope", img_size=64).state_dict(), model)
    model.load_state_dict(state)
    assert model.layers[0].blocks[0].agg.down[1].rope.rotations.shape == (16, 16, 8, 2)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_script(aggregation: str) -> None:
    model = small(aggregation)
    scripted = torch.jit.script(model)
    with torch.no_grad():
        for size in (64, 128):
            torch.testing.assert_close(scripted(image(size)), model(image(size)))


TWO_LAYERS = {"depths": (1, 1), "num_heads": (2, 4)}


@pytest.mark.parametrize("aggregation", OTHERS)
def test_export_with_dynamic_sizes(aggregation: str) -> None:
    model = small(aggregation, **TWO_LAYERS)
    batch, step = torch.export.Dim.DYNAMIC, 16 if aggregation == "recconv_transposed" else 1
    height, width = (step * torch.export.Dim(name, max=100) if step > 1 else batch for name in "hw")
    program = torch.export.export(model, (image(80, 48, 2),), dynamic_shapes=[{0: batch, 2: height, 3: width}])
    with torch.no_grad():
        for count, height, width in [(3, 48, 160), (1, 32 * step + 16, 64)] if step > 1 else [(3, 35, 99)]:
            x = image(height, width, count)
            torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregation", OTHERS)
def test_compiles_to_one_graph(aggregation: str) -> None:
    model = small(aggregation, **TWO_LAYERS)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(image()), model(image()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregation", OTHERS)
def test_symbolic_trace(aggregation: str) -> None:
    model, x = small(aggregation), image()
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_bfloat16_and_autocast(aggregation: str) -> None:
    model, x = small(aggregation, dtype=torch.bfloat16), image()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(x.bfloat16()).dtype == torch.bfloat16
    full = small(aggregation)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        low = full(x)
    torch.testing.assert_close(low.float(), full(x), rtol=0.1, atol=0.1)
