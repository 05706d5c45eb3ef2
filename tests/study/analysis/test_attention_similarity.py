"""Attention profiles against the networks' own attention and against weights computed by hand."""

import math

import pytest
import timm
import torch

from checkpoints.files import network
from recnext.errors import RecNextError
from recnext.nn.mixers.linear_attention import attend, features
from recnext.study.analysis.attention_similarity import (
    LINEAR_KERNELS,
    attention_profile,
    attention_weights,
    breadth,
    row_similarity,
)


@pytest.mark.parametrize("kernel", [*LINEAR_KERNELS, "softmax"])
def test_weights_are_those_the_networks_apply(kernel) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 8, 20) for _ in range(3))
    weights = attention_weights(q, k, kernel)
    nowhere_positive = (q.relu().transpose(-1, -2) @ k.relu()).sum(-1) == 0
    expected = 1 - (nowhere_positive & torch.tensor(kernel == "relu")).float()
    torch.testing.assert_close(weights.sum(-1), expected, rtol=1e-4, atol=1e-4)
    expected = attend(features(q, kernel), features(k, kernel), v, kernel, True)
    torch.testing.assert_close(v @ weights.transpose(-1, -2), expected, rtol=1e-4, atol=1e-4)


def test_weights_by_hand() -> None:
    """One channel, two positions: queries ln 2 and -ln 2, keys 1 and -1."""
    q = torch.tensor([math.log(2), -math.log(2)]).view(1, 1, 1, 2)
    k = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    elu = attention_weights(q, k, "elu")[0, 0]
    keys = torch.tensor([2.0, math.exp(-1)])  # elu + 1
    torch.testing.assert_close(elu, (keys / keys.sum()).expand(2, 2), rtol=1e-5, atol=1e-5)
    softmax = attention_weights(q, k, "softmax")[0, 0]
    torch.testing.assert_close(softmax, torch.tensor([[0.8, 0.2], [0.2, 0.8]]))
    relu = attention_weights(q, k, "relu")[0, 0]
    torch.testing.assert_close(relu, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), rtol=1e-5, atol=1e-5)
    # rows (1, 0) and (0, 0) beside (.8, .2) and (.2, .8): .8 / sqrt(.68) and 0
    assert row_similarity(relu, softmax) == pytest.approx(0.8 / math.sqrt(0.68) / 2, rel=1e-4)


def test_breadth_is_the_share_of_positions() -> None:
    weights = torch.zeros(3, 8)
    weights[0] = 1 / 8
    weights[1, :4] = 1 / 4
    weights[2, 5] = 1
    assert breadth(weights) == pytest.approx((1 + 1 / 2 + 1 / 8) / 3)
    assert breadth(torch.zeros(2, 8)) == 0


def test_every_layer_of_a_network_in_its_own_positions() -> None:
    torch.manual_seed(0)
    images, seen = torch.randn(2, 3, 64, 64), []
    rows = attention_profile(network("test_recnext_a"), [images], on_image=lambda: seen.append(1))
    assert [row.positions for row in rows] == [64, 16, 4, 4, 1]
    assert rows[0].layer == "stages.0.blocks.0.token_mixer.down.1"
    assert seen == [1, 1]
    for row in rows:
        assert set(row.similarity) == set(LINEAR_KERNELS)
        assert set(row.breadth) == {*LINEAR_KERNELS, "softmax"}
        assert all(0 <= value <= 1 + 1e-4 for value in (*row.similarity.values(), *row.breadth.values()))
    assert rows[-1].similarity["elu"] == pytest.approx(1, abs=1e-4)  # one position: nothing to choose

    half = attention_profile(network("test_recnext_l"), images.split(1))
    assert len(half) == 6  # the block that only adds what others attended to has no layer
    mlla = timm.create_model("mlla_nano_recattn", embed_dim=16, num_heads=(1, 2, 2, 4), depths=(1, 1, 1, 1)).eval()
    assert len(attention_profile(mlla, [images])) == 7  # four blocks and three downsamples


def test_images_are_averaged() -> None:
    torch.manual_seed(0)
    model, images = network("test_recnext_a"), torch.randn(2, 3, 64, 64)
    both = attention_profile(model, [images])[0]
    single = [attention_profile(model, [image[None]])[0] for image in images]
    for kernel in LINEAR_KERNELS:
        assert both.similarity[kernel] == pytest.approx(sum(row.similarity[kernel] for row in single) / 2, abs=1e-5)


def test_mistakes() -> None:
    with pytest.raises(RecNextError, match="no linear attention layer: take a network of the A or L series"):
        attention_profile(network(), [torch.zeros(1, 3, 64, 64)])
    with pytest.raises(RecNextError, match="at least one image"):
        attention_profile(network("test_recnext_a"), [])
