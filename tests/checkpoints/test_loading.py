import pytest
import timm
import torch
from torch import nn

import recnext
from checkpoints.files import TINY, image, network, published_fused_file, relative_difference, training_file
from golden_fill import fill
from recnext.checkpoints import save
from recnext.errors import RecNextError
from recnext.nn.fusion import batchnorms


@pytest.fixture
def training_m(tmp_path):
    return training_file(tmp_path / "m.pth", network())


@pytest.mark.parametrize("name", [*TINY, "recnext_t"])
def test_training_file_is_recognised_and_loaded(name, tmp_path):
    model = network(name)
    loaded = recnext.load(checkpoint=training_file(tmp_path / "x.pth", model))
    assert loaded.pretrained_cfg["architecture"] == name
    assert not loaded.training
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", [*TINY, "recnext_t"])
def test_published_fused_torchscript_loses_its_left_over_norms(name, tmp_path):
    model = network(name)
    path = published_fused_file(tmp_path / "x.pt", model)
    left = [key for key in torch.jit.load(str(path)).state_dict() if key.endswith("running_mean")]
    assert bool(left) == (name in ("test_recnext_m", "test_recnext_a"))
    loaded = recnext.load(checkpoint=path)
    assert batchnorms(loaded) == []
    assert list(loaded.state_dict()) == list(recnext.fuse(model).state_dict())
    with torch.inference_mode():
        assert relative_difference(loaded(image()), model(image())) < 1e-4


def test_fused_argument(training_m, tmp_path):
    assert batchnorms(recnext.load("test_recnext_m", checkpoint=training_m)) != []
    fused = recnext.load("test_recnext_m", checkpoint=training_m, fused=True)
    assert batchnorms(fused) == []
    with torch.inference_mode():
        assert relative_difference(fused(image()), network()(image())) < 1e-4
    path = published_fused_file(tmp_path / "x.pt", network())
    with pytest.raises(RecNextError, match=r"x\.pt is fused, which cannot be undone"):
        recnext.load(checkpoint=path, fused=False)


def test_moving_average_on_request(tmp_path):
    model, ema = network(), fill(network(), salt="ema")
    path = training_file(tmp_path / "x.pth", model, ema)
    first = recnext.load(checkpoint=path, ema=True).stem.stem[0].conv.weight
    assert torch.equal(first, ema.stem.stem[0].conv.weight)
    without = training_file(tmp_path / "y.pth", model)
    with pytest.raises(RecNextError, match=r"y\.pth holds no moving average"):
        recnext.load(checkpoint=without, ema=True)
    with pytest.raises(RecNextError, match="ema needs a checkpoint"):
        recnext.load("test_recnext_m", ema=True)


@pytest.mark.parametrize("wrap", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_wrapped_state_dicts(wrap, key, tmp_path):
    model = network()
    state = {wrap + name: value for name, value in model.state_dict().items()}
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "x.pth")
    assert torch.equal(recnext.load(checkpoint=tmp_path / "x.pth").head.head.linear.bias, model.head.head.linear.bias)


def test_run_folder_gives_the_best_and_its_average(tmp_path):
    models = {name: fill(network(), salt=name) for name in ("best", "last", "best_ema")}
    for name, model in models.items():
        save(model, tmp_path / f"{name}.safetensors")

    def loaded(**arguments):
        return recnext.load(checkpoint=tmp_path, **arguments).head.head.linear.bias

    assert torch.equal(loaded(), models["best"].head.head.linear.bias)
    assert torch.equal(loaded(ema=True), models["best_ema"].head.head.linear.bias)
    (tmp_path / "best.safetensors").unlink()
    assert torch.equal(loaded(), models["last"].head.head.linear.bias)
    (tmp_path / "best_ema.safetensors").unlink()
    with pytest.raises(RecNextError, match="holds no moving average"):
        loaded(ema=True)
    (tmp_path / "last.safetensors").unlink()
    with pytest.raises(RecNextError, match=r"expected best\.safetensors or last\.safetensors"):
        loaded()


@pytest.mark.parametrize("fused", [False, True])
def test_other_number_of_classes_is_explicit_and_keeps_the_backbone(fused, tmp_path):
    model = recnext.fuse(network()) if fused else network()
    path = save(model, tmp_path / "x.safetensors", class_names=list("abcdefg"))
    assert recnext.load(checkpoint=path).num_classes == 7
    other = recnext.load(checkpoint=path, num_classes=3)
    assert other(image()).shape == (2, 3)
    assert "label_names" not in other.pretrained_cfg
    with torch.inference_mode():
        torch.testing.assert_close(other.forward_features(image()), model.forward_features(image()))
        none = recnext.load(checkpoint=path, num_classes=0)
        assert none(image()).shape == (2, 128)
    assert bool(batchnorms(none)) != fused
    again = recnext.load(checkpoint=save(other, tmp_path / "y.safetensors"))
    torch.testing.assert_close(again(image()), other(image()))
    assert batchnorms(recnext.load(checkpoint=path, num_classes=3, fused=True)) == []


def test_image_channels(tmp_path):
    grey = save(network(in_chans=1), tmp_path / "grey.safetensors")
    assert recnext.load(checkpoint=grey)(image(channels=1)).shape == (2, 7)
    with pytest.raises(RecNextError, match=r"for images of 1 channels, not 3: give in_chans=1"):
        recnext.load(checkpoint=grey, in_chans=3)
    colour = save(network(), tmp_path / "colour.safetensors")
    summed = recnext.load(checkpoint=colour, in_chans=1).stem.stem[0].conv.weight
    torch.testing.assert_close(summed, network().stem.stem[0].conv.weight.sum(1, keepdim=True))
    assert recnext.load(checkpoint=published_fused_file(tmp_path / "x.pt", network()), in_chans=4).in_chans == 4


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("name", TINY)
def test_features_only_takes_the_same_weights(name, fused, tmp_path):
    path = training_file(tmp_path / "x.pth", network(name))
    features = recnext.load(checkpoint=path, features_only=True, fused=fused, out_indices=(1, 3))
    reference = timm.create_model(name, features_only=True, out_indices=(1, 3))
    assert features.feature_info.reduction() == reference.feature_info.reduction()
    assert features.feature_info.channels() == reference.feature_info.channels()
    if not fused:
        assert list(features.state_dict()) == list(reference.state_dict())
    with torch.inference_mode():
        expected = network(name).forward_intermediates(image(), intermediates_only=True)
        for actual, i in zip(features(image()), (1, 3), strict=True):
            assert relative_difference(actual, expected[i]) < 1e-4


def test_half_precision_file(tmp_path):
    torch.save(network().half().state_dict(), tmp_path / "x.pth")
    assert recnext.load(checkpoint=tmp_path / "x.pth").head.head.linear.weight.dtype == torch.float32


def test_mismatches_name_both_sides_and_the_fix(training_m, tmp_path):
    with pytest.raises(
        RecNextError,
        match=r"m\.pth holds test_recnext_m \(M series\), not test_recnext_a \(A series\): give the name test_rec",
    ):
        recnext.load("test_recnext_a", checkpoint=training_m)
    with pytest.raises(RecNextError, match=r"holds test_recnext_m .*, not recnext_m1 \(M series\)"):
        recnext.load("recnext_m1", checkpoint=training_m)
    with pytest.raises(RecNextError, match=r"not recnext_t_share_channel \(L series, shared channels\)"):
        recnext.load("recnext_t_share_channel", checkpoint=training_m)
    with pytest.raises(RecNextError, match=r"does not fit this network: it .*mlp_ratio|instead of"):
        recnext.load("test_recnext_m", checkpoint=training_m, mlp_ratio=3)
    own = timm.create_model("test_recnext_m", num_classes=7, embed_dim=(8, 16, 32, 64))
    torch.save(own.state_dict(), tmp_path / "own.pth")
    with pytest.raises(RecNextError, match=r"a network of the M series with widths 8, 16, 32, 64.*give the name"):
        recnext.load(checkpoint=tmp_path / "own.pth")
    assert recnext.load("test_recnext_m", checkpoint=tmp_path / "own.pth", embed_dim=(8, 16, 32, 64)).num_classes == 7
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(RecNextError, match="does not say which network it is"):
        recnext.load(checkpoint=tmp_path / "linear.pth")
    with pytest.raises(RecNextError, match=r"it lacks stem.*; it also has weight, bias"):
        recnext.load("test_recnext_m", checkpoint=tmp_path / "linear.pth")


def test_arguments_that_make_no_sense():
    with pytest.raises(RecNextError, match="did you mean recnext_m1"):
        recnext.load("recnext_m_1")
    with pytest.raises(RecNextError, match="neither"):
        recnext.load()
    with pytest.raises(RecNextError, match="take one"):
        recnext.load("recnext_m0", checkpoint="x.pth", pretrained=True)
    with pytest.raises(RecNextError, match="test_recnext_m has no published weights"):
        recnext.load("test_recnext_m", pretrained=True)
    with pytest.raises(RecNextError, match="needs the name"):
        recnext.load(pretrained=True)
    with pytest.raises(RecNextError, match=r"has no argument 'wings'"):
        recnext.load("test_recnext_m", wings=2)


def test_random_weights_without_a_checkpoint():
    model = recnext.load("test_recnext_m", num_classes=5, fused=True, device="meta")
    assert model.num_classes == 5
    assert next(model.parameters()).is_meta
    assert batchnorms(model) == []
