"""The published rules, transcribed in float64 and compared: mixing, distillation, clipping, average, groups."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from engine.runs import settings
from recnext.checkpoints import load, save
from recnext.data.sampling import seed_everything
from recnext.engine.optimization import clip_gradients, make_optimizer
from recnext.engine.schedule import LearningRate
from recnext.errors import RecNextError
from recnext.tasks.classification.mixing import Mixing
from recnext.tasks.classification.teacher import load_teacher, make_distiller


def log_softmax(x):
    return x - x.max(1, keepdims=True) - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True))


@pytest.mark.parametrize("seed", range(8))
def test_mixing_and_its_loss(seed):
    """The published recipe: mixup 0.8 or cutmix 1.0 with even odds, one draw a batch, smoothing inside the targets."""
    chosen = settings(mixup=0.8, cutmix=1.0, label_smoothing=0.1)
    images, labels = torch.randn(6, 3, 20, 30), torch.tensor([0, 4, 2, 2, 1, 3])
    seed_everything(seed)
    mixing = Mixing(chosen, num_classes=5)
    mixed, targets = mixing(images.clone(), labels)

    seed_everything(seed)
    np.random.rand()  # whether to mix, with probability 1
    x, other = images.double().numpy(), images.double().numpy()[::-1]
    if np.random.rand() < 0.5:
        share = np.random.beta(1.0, 1.0)
        height, width = (int(side * math.sqrt(1 - share)) for side in (20, 30))
        row, column = np.random.randint(0, 20), np.random.randint(0, 30)
        rows = slice(max(row - height // 2, 0), min(row + (height + 1) // 2, 20))
        columns = slice(max(column - width // 2, 0), min(column + (width + 1) // 2, 30))
        expected = x.copy()
        expected[..., rows, columns] = other[..., rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / 600
    else:
        share = np.random.beta(0.8, 0.8)
        expected = share * x + (1 - share) * other
    smooth = np.full((6, 5), 0.1 / 5)
    smooth[np.arange(6), labels.numpy()] += 0.9
    soft = share * smooth + (1 - share) * smooth[::-1]
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(targets.numpy(), soft, rtol=1e-5, atol=1e-6)

    logits = torch.randn(6, 5)
    loss = -(soft * log_softmax(logits.double().numpy())).sum(1).mean()
    assert mixing.criterion(logits, targets).item() == pytest.approx(loss, rel=1e-5)


def test_both_kinds_of_mixing_occur_and_an_odd_image_is_left_out():
    mixing = Mixing(settings(mixup=0.8, cutmix=1.0), num_classes=5)
    whole = 0
    for seed in range(20):
        seed_everything(seed)
        images, _ = mixing(torch.stack([torch.full((3, 8, 8), float(i)) for i in range(4)]), torch.arange(4))
        whole += all(image.unique().numel() == 1 for image in images)
    assert 4 < whole < 16  # mixup leaves flat images flat, cutmix seldom
    images, targets = mixing(torch.randn(5, 3, 8, 8), torch.arange(5))
    assert (len(images), len(targets)) == (4, 4)


@pytest.mark.parametrize(("kind", "temperature"), [("hard", 1.0), ("soft", 3.0)])
def test_distillation_loss(kind, temperature):
    chosen = settings(teacher="x", distillation=kind, temperature=temperature, label_smoothing=0.1)
    student, teacher = load("test_recnext_m", num_classes=7), load("test_recnext_a", num_classes=7)
    distiller = make_distiller(
        student, teacher.eval(), Mixing(chosen, num_classes=7).criterion, chosen, device=torch.device("cpu")
    )
    student.train()
    for module in student.modules():  # so that a second pass gives the same
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([1, 6, 3, 0])
    result = distiller(images, labels)["loss"]
    with torch.no_grad():
        base, token = (logits.double().numpy() for logits in student(images))
        answers = teacher(images).double().numpy()
    smooth = np.full((4, 7), 0.1 / 7)
    smooth[np.arange(4), labels.numpy()] += 0.9
    on_labels = -(smooth * log_softmax(base)).sum(1).mean()
    if kind == "hard":
        on_teacher = -log_softmax(token)[np.arange(4), answers.argmax(1)].mean()
    else:
        p, q = log_softmax(answers / temperature), log_softmax(token / temperature)
        on_teacher = (np.exp(p) * (p - q)).sum(1).mean() * temperature**2
    assert result.item() == pytest.approx(0.5 * on_labels + 0.5 * on_teacher, rel=1e-5)
    result.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not distiller.train().teacher.model.training


def test_a_teacher_sees_images_normalised_its_own_way(monkeypatch):
    chosen = settings(teacher="x")
    student, teacher = load("test_recnext_m", num_classes=7), load("test_recnext_a", num_classes=7)
    teacher.pretrained_cfg = {**teacher.pretrained_cfg, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0)}
    seen = []
    teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    criterion = Mixing(chosen, num_classes=7).criterion
    distiller = make_distiller(student.train(), teacher, criterion, chosen, device=torch.device("cpu"))
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(student.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    distiller((pixels - mean) / std, torch.tensor([0, 1]))
    expected = (pixels - 0.5) / torch.tensor([0.25, 0.5, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


def test_teachers_that_do_not_fit_are_refused_in_one_line(train, tmp_path):
    path = save(load("test_recnext_m", num_classes=7), tmp_path / "seven.safetensors")
    with pytest.raises(RecNextError, match=r"--teacher .*seven.safetensors knows 7 classes, the data 10: train it on"):
        train(tmp_path / "a", teacher=str(path))
    named = save(load("test_recnext_m", num_classes=10), tmp_path / "t.safetensors", class_names=[*"0123456798"])
    with pytest.raises(RecNextError, match="in another order: '9' where the data has '8'"):
        train(tmp_path / "b", teacher=str(named))
    with pytest.raises(RecNextError, match=r"--teacher none.pth: .*none.pth"):
        train(tmp_path / "c", teacher="none.pth")
    with pytest.raises(RecNextError, match=r"no file gone\.pth: check --teacher-checkpoint"):
        train(tmp_path / "d", teacher="resnet18", teacher_checkpoint="gone.pth")
    good = save(load("test_recnext_m", num_classes=10), tmp_path / "ten.safetensors")
    with pytest.raises(RecNextError, match="needs a network with a head for distillation, resnet18 has none"):
        train(tmp_path / "e", teacher=str(good), model="resnet18")


def test_a_teacher_of_timm_with_weights_from_a_file(tmp_path):
    import timm

    model = timm.create_model("test_resnet", num_classes=10)
    torch.save(model.state_dict(), tmp_path / "teacher.pth")
    teacher = load_teacher("test_resnet", checkpoint=str(tmp_path / "teacher.pth"), class_names=[*"0123456789"])
    assert torch.equal(teacher.conv1[0].weight, model.conv1[0].weight)
    assert not teacher.training
    with pytest.raises(RecNextError, match=r"--teacher test_resnet: .*does not fit this network"):
        load_teacher("test_resnet", checkpoint=str(tmp_path / "teacher.pth"), class_names=[*"01234567"])


def test_a_teacher_of_a_run_folder(train, tmp_path):
    train(tmp_path / "run", epochs=1)
    weights = load_file(tmp_path / "run" / "best.safetensors")
    run = str(tmp_path / "run")
    for options in ({"name": run}, {"name": "test_recnext_m", "checkpoint": run}):
        teacher = load_teacher(**options, class_names=[*"0123456789"])
        assert all(torch.equal(value, weights[key]) for key, value in teacher.state_dict().items())


def test_a_teacher_out_of_reach_says_what_to_do(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no connection.")

    monkeypatch.setattr("timm.create_model", unreachable)
    with pytest.raises(RecNextError, match=r"no connection; without a network, give .* --teacher-checkpoint"):
        load_teacher("test_resnet", class_names=["a", "b"])


def test_adaptive_clipping_reaches_every_parameter():
    """Brock et al., algorithm 2: a unit's gradient norm is at most 0.02 times its weight's, that at least 1e-3."""
    model = load("test_recnext_m", num_classes=4).train()
    nn.functional.cross_entropy(100 * model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 0, 0, 1])).backward()
    before = {name: parameter.grad.double().clone() for name, parameter in model.named_parameters()}
    clip_gradients(model.parameters(), settings(clip="agc", clip_value=0.02))
    clipped = 0
    for name, parameter in model.named_parameters():
        weight, gradient = parameter.detach().double(), before[name]
        axes = tuple(range(1, weight.ndim)) or None
        limit = 0.02 * torch.linalg.vector_norm(weight, dim=axes, keepdim=True).clamp(min=1e-3)
        norm = torch.linalg.vector_norm(gradient, dim=axes, keepdim=True)
        expected = torch.where(norm < limit, gradient, gradient * limit / norm.clamp(min=1e-6))
        torch.testing.assert_close(parameter.grad.double(), expected, rtol=1e-5, atol=1e-9, msg=name)
        clipped += bool((norm >= limit).any())
    assert clipped > 5
    assert not torch.equal(model.head.head_dist.linear.bias.grad.double(), before["head.head_dist.linear.bias"])


def test_the_average_is_the_published_one_with_buffers(train, tmp_path):
    start = load("test_recnext_m", num_classes=10)
    path = save(start, tmp_path / "start.safetensors")
    states = []

    def record(state):
        states.append({key: value.double().clone() for key, value in state.items()})

    record(start.state_dict())
    options = {"epochs": 1, "ema": True, "ema_decay": 0.9, "ema_warmup": False, "checkpoint": str(path)}
    train(tmp_path / "run", **options, on_step=lambda step: record(step.model.state_dict()))
    expected = states[0]
    for state in states[1:]:
        expected = {key: 0.9 * expected[key] + 0.1 * state[key] for key in state}
    saved = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["ema"]
    for key, value in saved.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-6, msg=key)
    assert any("running_mean" in key for key in saved)


def test_groups_of_layer_wise_decay():
    model = load("recnext_m0", num_classes=4)
    chosen = settings(layer_decay=0.5, weight_decay=0.1)
    optimizer = make_optimizer(model, chosen, lr=0.1)
    LearningRate(optimizer, chosen, steps_per_epoch=100).set(50)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    head, stem = model.head.head.linear.weight, model.stem.stem[0].conv.weight
    last, first = (model.stages[stage].blocks[0].channel_mixer[0].conv.weight for stage in (3, 0))
    assert rates[id(head)] > rates[id(last)] > rates[id(first)] > rates[id(stem)]
    assert rates[id(last)] == pytest.approx(rates[id(head)] / 2)
    assert decays[id(head)] == 0.1
    assert decays[id(model.head.head.linear.bias)] == 0
    everything = make_optimizer(model, settings(decay_all=True), lr=0.1)
    assert {group["weight_decay"] for group in everything.param_groups} == {0.025}


def test_head_first_keeps_the_backbone_and_its_statistics(train, tmp_path):
    start = save(load("test_recnext_m", num_classes=10), tmp_path / "start.safetensors")
    train(tmp_path / "run", checkpoint=str(start), epochs=1, freeze_epochs=1, lr=0.01)
    before, after = load(checkpoint=start).state_dict(), load(checkpoint=tmp_path / "run").state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("head"))
    assert not torch.equal(before["head.head.linear.weight"], after["head.head.linear.weight"])
    assert not torch.equal(before["head.head.norm.running_mean"], after["head.head.norm.running_mean"])


def test_published_stochastic_depth_by_model(tmp_path):
    from recnext.tasks.classification.model import drop_path_args

    rates = {name: drop_path_args(settings(model=name, drop_path="published")) for name in ("recnext_m1", "recnext_m5")}
    assert rates == {"recnext_m1": {"drop_path_rate": 0.0}, "recnext_m5": {"drop_path_rate": 0.3}}
    assert drop_path_args(settings(model="recnext_b", drop_path="published", teacher="t")) == {"drop_path_rate": 0.0}
    assert drop_path_args(settings(model="mlla_mini_recattn", drop_path="published")) == {}
    assert drop_path_args(settings(drop_path=0.4)) == {"drop_path_rate": 0.4}
    assert drop_path_args(settings()) == {}


def test_a_distilled_run_is_an_ordinary_checkpoint(train, tmp_path, digit_folders):
    teacher = save(load("test_recnext_a", num_classes=10), tmp_path / "teacher.safetensors")
    result = train(tmp_path / "run", teacher=str(teacher), mixup=0.8, cutmix=1.0, epochs=1)
    model = load(checkpoint=tmp_path / "run")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert record["train_loss"] == result.records[0]["train_loss"]
