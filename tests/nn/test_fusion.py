"""`fuse` folds what is ours and timm's, leaves other libraries' modules alone, and says what it cannot fold."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import recnext
from recnext import RecNextError
from recnext.nn.fusion import batchnorms
from recnext.nn.mixers.conv_norm import ConvNorm


class ForeignHead(nn.Conv2d):
    """A layer of another library, whose fuse() works in place and gives nothing."""

    def fuse(self) -> None:
        raise AssertionError("not ours to call")


def test_other_libraries_fuse_is_not_called() -> None:
    backbone = timm.create_model("test_recnext_m", num_classes=0, global_pool="")
    head = nn.Sequential(ForeignHead(128, 3, 1), nn.BatchNorm2d(3))
    model = nn.Sequential(backbone, head).eval()
    fused = recnext.fuse(model)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)
    assert batchnorms(fused) == ["1.1"]


def test_timms_own_protocol_is_kept() -> None:
    model = timm.create_model("test_byobnet", num_classes=2).eval()
    mobileone = timm.create_model("fastvit_t8", num_classes=2).eval()
    for network in (model, mobileone):
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(recnext.fuse(network)(x), network(x), rtol=1e-3, atol=1e-4)
    assert len(batchnorms(recnext.fuse(mobileone))) < len(batchnorms(mobileone))


class Adapter(nn.Module):
    """A convolution with a low-rank addition beside it, as LoRA puts in a convolution's place."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor:
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.base_layer(x)


@pytest.mark.parametrize(
    "place", ["stages.0.blocks.0.channel_mixer.0.conv", "stages.1.downsample.token_mixer", "head.head.linear"]
)
def test_adapters_are_to_be_merged_first(place: str) -> None:
    model = timm.create_model("test_recnext_m").eval()
    model.set_submodule(place, Adapter(model.get_submodule(place)))
    with pytest.raises(RecNextError, match=r"Adapter stands in place of .*: merge adapters"):
        recnext.fuse(model)


def test_frozen_norms_without_eps() -> None:
    class Frozen(nn.Module):
        def __init__(self, norm: nn.BatchNorm2d) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, getattr(norm, name).detach())

    layer = ConvNorm(4, 6, 3).eval()
    nn.init.uniform_(layer.norm.running_var, 0.5, 1.5)
    x = torch.randn(1, 4, 8, 8)
    expected = layer(x)
    layer.norm = Frozen(layer.norm)
    torch.testing.assert_close(layer.fuse()(x), expected, rtol=1e-4, atol=1e-5)


def test_a_fused_mlla_is_saved_and_loaded(tmp_path: Path) -> None:
    model = timm.create_model("mlla_nano_recattn", num_classes=3, img_size=64).eval()
    fused = recnext.fuse(model)
    assert batchnorms(fused) == []
    recnext.save(fused, tmp_path / "fused.safetensors")
    recnext.save(model, tmp_path / "plain.safetensors")
    x = torch.randn(1, 3, 64, 64)
    for name, norms in (("fused", 0), ("plain", 5)):
        loaded = recnext.load(checkpoint=tmp_path / f"{name}.safetensors").eval()
        assert len(batchnorms(loaded)) == norms
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-5)
