"""timm's model contract, swept over the registry."""

import copy

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.task import TokenDistillationTask
from timm.utils import reparameterize_model
from torch import nn

import recnext
from recnext.nn.fusion import batchnorms
from recnext.nn.models.base import TAGS

TINY = ["test_recnext_m", "test_recnext_a", "test_recnext_l"]
SMALL = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (2, 2, 4, 8), "img_size": 64}
MLLA = ["mlla_nano_recconv_nearest", "mlla_nano_recattn_rope"]
ALL = [*TINY, *MLLA]
PUBLISHED = timm.list_models("recnext_*")
ODD = (2, 3, 67, 45)


def create(name: str, **kwargs: object) -> nn.Module:
    """A small network of any family."""
    return timm.create_model(name, **{**(SMALL if name in MLLA else {}), **kwargs})


def randomized(name: str, **kwargs: object) -> nn.Module:
    """A network whose norms are not the identity."""
    torch.manual_seed(0)
    model = create(name, **kwargs)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).abs().max() / (expected.max() - expected.min())).item()


def test_eighteen_networks_with_two_weights_each() -> None:
    assert len(PUBLISHED) == 18
    tagged = timm.list_models("recnext_*", include_tags=True)
    assert sorted(tagged) == sorted(f"{name}.{tag}" for name in PUBLISHED for tag in TAGS)
    assert set(timm.list_pretrained("recnext_*")) == set(tagged)


@pytest.mark.parametrize("name", PUBLISHED)
def test_configuration(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    cfg = model.pretrained_cfg
    assert cfg["hf_hub_id"] == f"suous/{name}.dist_300e_in1k"
    assert (cfg["crop_pct"], cfg["interpolation"], cfg["license"]) == (0.875, "bicubic", "apache-2.0")
    assert cfg["first_conv"] + ".weight" in model.state_dict()
    for head in cfg["classifier"]:
        assert model.get_submodule(head).out_features == 1000
    stride = 8 if name[len("recnext_")] in "tsb" else 4
    assert model.feature_info[0]["reduction"] == stride
    assert [f["reduction"] for f in model.feature_info] == [stride * 2**i for i in range(4)]
    assert cfg["pool_size"] == (-(-224 // (stride * 8)),) * 2


@pytest.mark.parametrize(("switch", "tag"), [(True, "dist_300e_in1k"), (False, "base_300e_in1k")])
def test_distillation_switch_picks_the_weights(switch: bool, tag: str) -> None:
    with torch.device("meta"):
        model = timm.create_model("recnext_t", distillation=switch)
        assert model.pretrained_cfg["tag"] == tag
        assert model.head.distilled_training is switch
        explicit = timm.create_model("recnext_t.base_300e_in1k", distillation=switch)
    assert explicit.pretrained_cfg["tag"] == "base_300e_in1k"


@pytest.mark.parametrize("switch", [True, False])
def test_distillation_switch_of_networks_without_weights(switch: bool) -> None:
    model = timm.create_model("test_recnext_m", distillation=switch, num_classes=2).train()
    assert isinstance(model(torch.randn(2, 3, 32, 32)), tuple) == switch


@pytest.mark.parametrize("name", ALL)
def test_pretrained_weights_adapt(name: str, tmp_path) -> None:
    source = randomized(name)
    file = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in source.state_dict().items()}, file)
    overlay = {"file": str(file)}

    def loaded(**kwargs: object) -> nn.Module:
        return create(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs).eval()

    x = torch.randn(ODD)
    torch.testing.assert_close(loaded()(x), source(x))
    ten = loaded(num_classes=10)
    assert ten(x).shape == (2, 10)
    torch.testing.assert_close(ten.forward_features(x), source.forward_features(x))
    if name in TINY:
        torch.testing.assert_close(ten.head.head.norm.weight, source.head.head.norm.weight)
    assert loaded(in_chans=1)(torch.randn(1, 1, 64, 64)).shape == (1, 1000)
    maps = loaded(features_only=True)(x)
    for actual, expected in zip(maps, source.forward_intermediates(x, intermediates_only=True), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", ALL)
def test_heads_and_pooling(name: str) -> None:
    model = create(name, num_classes=7, drop_rate=0.3).eval()
    x = torch.randn(ODD)
    width = model.num_features
    last = model.forward_features(x)
    assert model.head_drop.p == 0.3
    assert model.get_classifier() is model.head
    assert model.forward_head(last, pre_logits=True).shape == (2, width)
    model.reset_classifier(5)
    assert model(x).shape == (2, 5)
    model.reset_classifier(0)
    pooled = last.mean((2, 3))
    torch.testing.assert_close(model(x), model.norm(pooled) if name in MLLA else pooled)
    model.reset_classifier(0, "")
    assert model(x).shape == last.shape
    assert create(name, num_classes=0, global_pool="")(x).shape == last.shape
    with pytest.raises(recnext.RecNextError, match="global_pool='max'"):
        create(name, global_pool="max")


@pytest.mark.parametrize("name", ALL)
def test_intermediates_and_pruning(name: str) -> None:
    model = randomized(name)
    x = torch.randn(ODD)
    last, maps = model.forward_intermediates(x)
    torch.testing.assert_close(last, model.forward_features(x))
    for info, feature in zip(model.feature_info, maps, strict=True):
        expected = tuple(-(-s // info["reduction"]) for s in x.shape[-2:])
        assert feature.shape == (2, info["num_chs"], *expected)
    early = model.forward_intermediates(x, indices=[1], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(early[0], maps[1])
    model.prune_intermediate_layers([1])
    assert len(model.layers if name in MLLA else model.stages) == 2
    torch.testing.assert_close(model(x), maps[1])


@pytest.mark.parametrize("size", [(32, 32), (33, 64), (50, 37), (128, 96)])
@pytest.mark.parametrize("name", ALL)
def test_any_size(name: str, size: tuple[int, int]) -> None:
    model = randomized(name)
    x = torch.randn(2, 3, *size)
    logits = model(x)
    assert logits.isfinite().all()
    assert relative(recnext.fuse(model)(x), logits) < 1e-4
    assert relative(model.to(memory_format=torch.channels_last)(x), logits) < 1e-4


@pytest.mark.parametrize("name", ALL)
def test_training_options(name: str) -> None:
    model = create(name, drop_path_rate=0.5, num_classes=3).train()
    rates = [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == 0.5
    x = torch.randn(4, 3, 64, 64)
    reference = create(name, num_classes=3).train()
    checkpointed = copy.deepcopy(reference)
    checkpointed.set_grad_checkpointing()
    for network in (reference, checkpointed):
        network(x).square().sum().backward()
    for (key, a), b in zip(reference.named_parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=key)
    assert model.no_weight_decay() == set()


@pytest.mark.parametrize("name", ALL)
def test_layer_groups_cover_every_parameter(name: str) -> None:
    from timm.models import group_parameters

    model = create(name)
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse))
        assert sorted(n for names in groups.values() for n in names) == sorted(n for n, _ in model.named_parameters())
        assert len(groups) > 3


@pytest.mark.parametrize("name", TINY)
def test_token_distillation_task(name: str) -> None:
    student = create(name, num_classes=10)
    teacher = timm.create_model("test_efficientnet", num_classes=10)
    task = TokenDistillationTask(
        student,
        teacher,
        criterion=nn.CrossEntropyLoss(),
        distill_type="hard",
        task_loss_weight=0.5,
        distill_loss_weight=0.5,
        verbose=False,
    ).train()
    assert student.head.distilled_training
    x, target = torch.randn(4, 3, 64, 64), torch.arange(4)
    result = task(x, target)
    result["loss"].backward()
    assert student.head.head_dist.linear.weight.grad.abs().sum() > 0
    # the published loss: the labels teach one head, the teacher's answers the other
    logits, dist_logits = student(x)
    answers = task.teacher(task.teacher.normalize_input(x, task.student_mean, task.student_std)).argmax(1)
    expected = 0.5 * nn.functional.cross_entropy(logits, target) + 0.5 * nn.functional.cross_entropy(
        dist_logits, answers
    )
    torch.testing.assert_close(result["loss"], expected)
    student.set_distilled_training(False)
    assert isinstance(student(x), torch.Tensor)
    fused = recnext.fuse(student)
    with pytest.raises(recnext.RecNextError, match="fused network has one head"):
        fused.set_distilled_training()


@pytest.mark.parametrize("name", ALL)
def test_device_and_dtype_arguments(name: str) -> None:
    meta = create(name, device="meta", dtype=torch.float64)
    assert all(p.is_meta and p.dtype == torch.float64 for p in meta.parameters())
    model = create(name, dtype=torch.float64).eval()
    assert model(torch.randn(1, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64
    model.reset_classifier(4)
    assert all(p.dtype == torch.float64 for p in model.head.parameters())


@pytest.mark.parametrize("name", ALL)
def test_fusion_variants_agree(name: str) -> None:
    model = randomized(name)
    x = torch.randn(ODD)
    expected = model(x)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    fused = recnext.fuse(model)
    for key, value in model.state_dict().items():  # the original is left alone
        assert torch.equal(value, state[key])
    by_timm = reparameterize_model(model)
    in_place = recnext.replace_batchnorm(copy.deepcopy(model))
    for candidate in (fused, by_timm, in_place, recnext.fuse(fused), recnext.replace_batchnorm(in_place)):
        assert batchnorms(candidate) == []
        assert relative(candidate(x), expected) < 1e-4
        assert list(candidate.state_dict()) == list(fused.state_dict())
    fused.reset_classifier(3)
    assert fused(x).shape == (2, 3)
    features = recnext.fuse(create(name, features_only=True))
    assert batchnorms(features) == []


@pytest.mark.parametrize("name", ALL)
def test_torchscript_and_fx(name: str, tmp_path) -> None:
    model = randomized(name)
    x = torch.randn(ODD)
    expected = model(x)
    scripted = torch.jit.script(model)
    scripted.save(str(tmp_path / "model.pt"))
    torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.pt"))(x), expected)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), expected)


@pytest.mark.parametrize("name", ALL)
def test_export_with_dynamic_shapes(name: str) -> None:
    model = randomized(name)
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (torch.randn(2, 3, 96, 96),), dynamic_shapes=(dynamic,)).module()
    for shape in [(1, 3, 96, 96), (3, 3, 81, 135)]:
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_compile_fullgraph(name: str) -> None:
    model = randomized(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(ODD)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert relative(compiled(x), model(x)) < 0.05
