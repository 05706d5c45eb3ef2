"""Distillation through the second head: the teacher, and timm's task for the loss.

Source: paper, training on ImageNet, after DeiT (Touvron et al., arXiv 2012.12877): half the loss on the labels from
one head, half the cross entropy of the other with the teacher's answer on the same mixed images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import timm
import torch
from timm.task import TokenDistillationTask
from timm.utils.misc import natural_key
from torch import nn

from recnext.checkpoints import load
from recnext.checkpoints.fitting import load_state
from recnext.checkpoints.loading import build, network_of
from recnext.checkpoints.reading import read_weights
from recnext.checkpoints.sources import quiet
from recnext.data.listing import as_composed
from recnext.errors import RecNextError

from .settings import TrainSettings


def load_teacher(name: str, *, checkpoint: Optional[str] = None, class_names: Sequence[str]) -> nn.Module:
    """A network whose answers are to be learnt, frozen, in eval mode.

    Args:
        name: a timm name (its pretrained weights are downloaded when not cached), ``hf-hub:owner/name``, or whatever
            `recnext.load` takes as a checkpoint.
        checkpoint: weights for a timm name, instead of the pretrained ones.
        class_names: of the data.

    Raises:
        RecNextError: there is no such teacher, its weights cannot be read, or its classes are not the data's.
    """
    try:
        teacher = _build(name, checkpoint, len(class_names))
    except RecNextError as error:
        raise RecNextError(f"--teacher {name}: {error}") from None
    except Exception as error:  # of the hub, the network, the file or the shapes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        fix = "" if checkpoint else "; without a network, give its weights as a file with --teacher-checkpoint"
        raise RecNextError(f"--teacher {name} cannot be loaded: {reason}{fix}") from None
    classes = getattr(teacher, "num_classes", None)
    if classes != len(class_names):
        raise RecNextError(
            f"--teacher {name} knows {classes} classes, the data {len(class_names)}: train it on this data first and "
            "give its checkpoint"
        )
    known = getattr(teacher, "pretrained_cfg", {}).get("label_names")
    if not known and list(class_names) == sorted(class_names) != sorted(class_names, key=natural_key):
        raise RecNextError(
            f"--teacher {name} does not name its classes, and timm sorts {', '.join(class_names[:3])} otherwise: give "
            "a teacher whose file names them, such as one trained on this data"
        )
    if known and [*map(as_composed, known)] != [*map(as_composed, class_names)]:
        pairs = zip(known, class_names, strict=True)
        theirs, ours = next((theirs, ours) for theirs, ours in pairs if theirs != ours)
        raise RecNextError(
            f"--teacher {name} knows other classes, or in another order: {theirs!r} where the data has {ours!r}; "
            "take a teacher trained on this data"
        )
    return teacher.requires_grad_(False).eval()


def _build(name: str, checkpoint: Optional[str], num_classes: int) -> nn.Module:
    if timm.is_model(name):
        if checkpoint is None:
            with quiet():
                return timm.create_model(name, pretrained=True)
        if not Path(checkpoint).exists():
            raise RecNextError(f"no file {checkpoint}: check --teacher-checkpoint")
        weights = read_weights(checkpoint)
        if network_of(weights) is not None:
            return build(name, weights)
        teacher = timm.create_model(name, num_classes=num_classes)  # a file that holds tensors alone
        load_state(teacher, weights.state, source=weights.source)
        return teacher
    if checkpoint is not None:
        raise RecNextError(f"--teacher-checkpoint {checkpoint} needs a timm name for --teacher")
    if name.startswith("hf-hub:"):
        return timm.create_model(name, pretrained=True)
    return load(checkpoint=name)


def make_distiller(
    student: nn.Module, teacher: nn.Module, criterion: nn.Module, settings: TrainSettings, *, device: torch.device
) -> TokenDistillationTask:
    """timm's task, which also switches the student to return both heads while training.

    Args:
        student: has a head for distillation.
        teacher: of `load_teacher`; images are normalised again where its mean and std are others.
        criterion: of the loss on the labels.
        settings: of the run.
        device: where the student is.

    Raises:
        RecNextError: the student has one head only.
    """
    if not hasattr(student, "set_distilled_training"):
        raise RecNextError(
            f"--teacher needs a network with a head for distillation, {settings.model} has none: take one of "
            "recnext_m0..m5, a0..a5, t, s, b"
        )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return TokenDistillationTask(
        student_model=student,
        teacher_model=teacher.to(device, memory_format=layout),  # type: ignore[call-overload]
        criterion=criterion,
        distill_type=settings.distillation,
        distill_loss_weight=settings.distillation_weight,
        task_loss_weight=1 - settings.distillation_weight,
        temperature=settings.temperature,
        device=device,
        verbose=False,
    )
