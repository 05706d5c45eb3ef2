"""What every run can be told, whatever is trained, and the learning-rate rule."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Optional, Union

from recnext.errors import RecNextError
from recnext.limits import most
from recnext.precision import parse_precision

# Arguments of a network that the data, the task and other settings decide.
_DECIDED_ELSEWHERE = {
    "num_classes",
    "in_chans",
    "features_only",
    "out_indices",
    "pretrained",
    "checkpoint",
    "fused",
    "ema",
    "device",
    "distillation",
}

Schedule = Literal["cosine", "epoch_cosine", "multistep", "poly"]
Clip = Literal["none", "agc", "norm"]
Tracker = Literal["none", "tensorboard", "wandb"]
Resume = Union[bool, Literal["auto"]]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Settings of the loop, common to all tasks.

    Args:
        epochs: passes over the training images.
        steps: length of the run in optimizer steps instead of epochs.
        evaluate_every: optimizer steps between evaluations of a run counted in steps; 0 evaluates after each epoch.
        batch_size: images per batch in each process, at least 2; unless given, fewer than the default where there are
            few images.
        accumulate: batches whose gradients are added up before an optimizer step.
        lr: learning rate at its peak; left out, base_lr * batch / base_batch, the batch counted over all
            processes and accumulated batches.
        base_lr: learning rate at its peak for a batch of base_batch.
        base_batch: see base_lr.
        min_lr: learning rate that cosine and poly end at.
        schedule: of the learning rate: cosine, a step at a time; epoch_cosine, as published, an epoch at a time and
            an epoch late; multistep, times lr_decay after each milestone; poly.
        milestones: epochs after which multistep lowers the learning rate (optimizer steps in a run counted so).
        lr_decay: factor of multistep.
        poly_power: exponent of poly.
        warmup_epochs: linear warm-up; by default a tenth of the run and at most 5.
        warmup_steps: its length in optimizer steps, instead of epochs.
        warmup_lr: learning rate that warm-up starts at.
        warmup_ratio: that learning rate as a share of the peak, instead of warmup_lr.
        weight_decay: of AdamW, not on biases and norms.
        decay_all: weight decay on biases and norms too.
        layer_decay: factor on the learning rate from each layer to the one below it; left out, all learn alike.
        freeze_epochs: first epochs in which the classifier (or other head) alone learns.
        clip: of gradients: none, agc (each unit's norm at most clip_value times its weight's) or norm (of all
            gradients together at most clip_value).
        clip_value: see clip.
        ema: also keep an exponential moving average of the weights, evaluated and saved as well.
        ema_decay: decay of that average per step.
        ema_warmup: lower decay in the first steps, so that short runs have an average worth having.
        precision: fp32, bf16, fp16, or auto: bf16 on GPUs that have it, else fp32.
        sync_batchnorm: statistics of BatchNorm over all GPUs.
        compile: torch.compile the network.
        channels_last: memory layout of the network and its images.
        seed: of weights, order and augmentation.
        workers: processes that load images.
        device: auto, cpu, cuda, cuda:1, mps.
        max_unreadable: share of the training images that may be unreadable; they are replaced by others.
        save_every: steps between saves within an epoch; 0 saves after each epoch only.
        keep: how many epochs' states stay, the newest one among them; an older one serves when the newest is damaged.
        curves: draw curves.png, where matplotlib is installed.
        tracker: also log to TensorBoard or Weights & Biases.
        output: run folder; by default runs/MODEL.
        resume: continue the run in that folder; auto starts one where there is none.
    """

    epochs: int = 30
    steps: Optional[int] = None
    evaluate_every: int = 0
    batch_size: int = 64
    accumulate: int = 1
    lr: Optional[float] = None
    base_lr: float = 1e-3
    base_batch: int = 512
    min_lr: float = 1e-5
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = ()
    lr_decay: float = 0.1
    poly_power: float = 0.9
    warmup_epochs: Optional[float] = None
    warmup_steps: Optional[int] = None
    warmup_lr: float = 1e-6
    warmup_ratio: Optional[float] = None
    weight_decay: float = 0.025
    decay_all: bool = False
    layer_decay: Optional[float] = None
    freeze_epochs: int = 0
    clip: Clip = "none"
    clip_value: float = 0.02
    ema: bool = False
    ema_decay: float = 0.9998
    ema_warmup: bool = True
    precision: str = "auto"
    sync_batchnorm: bool = False
    compile: bool = False
    channels_last: bool = True
    seed: int = 0
    workers: int = 2
    device: str = "auto"
    max_unreadable: float = 0.01
    save_every: int = 0
    keep: int = 1
    curves: bool = True
    tracker: Tracker = "none"
    output: Optional[str] = None
    resume: Resume = False

    def __post_init__(self) -> None:
        for entry in fields(self):  # a file may say null anywhere
            require(self, entry.name, entry.default is None or getattr(self, entry.name) is not None, "a value")
        object.__setattr__(self, "precision", parse_precision(self.precision))
        least = {"epochs": 1, "batch_size": 2, "accumulate": 1, "base_batch": 1, "keep": 1}
        from_zero = ("workers", "seed", "save_every", "freeze_epochs", "evaluate_every")
        for name in (*least, *from_zero):
            require(self, name, getattr(self, name) >= least.get(name, 0), f"an integer from {least.get(name, 0)}")
        for name in (entry.name for entry in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int):
                require(self, name, value <= most(name), f"{most(name)} at most")
        for name in ("steps", "warmup_steps"):
            value = getattr(self, name)
            require(self, name, value is None or value >= (name == "steps"), "a positive integer")
        for name in ("max_unreadable", "ema_decay", "lr_decay", "warmup_ratio", "layer_decay"):
            value = getattr(self, name)
            require(self, name, value is None or 0 <= value <= 1, "from 0 to 1")
        rates = ("lr", "base_lr", "min_lr", "warmup_lr")
        for name in (*rates, "warmup_epochs", "weight_decay", "clip_value", "poly_power"):
            value = getattr(self, name)
            require(self, name, value is None or 0 <= value < math.inf, "a number from 0")
        require(self, "lr", self.lr is None or self.lr > 0, "above 0, or left out for the rule")
        require(self, "base_lr", self.base_lr > 0, "above 0")
        if self.clip != "none":
            require(self, "clip_value", self.clip_value > 0, "above 0")
        rising = list(self.milestones) == sorted({*self.milestones}) and all(value > 0 for value in self.milestones)
        require(self, "milestones", rising, "rising positive integers")
        if self.steps is not None and self.schedule == "epoch_cosine":
            raise RecNextError("--schedule epoch_cosine goes by epochs: give --epochs instead of --steps, or cosine")
        if self.evaluate_every and self.steps is None:
            raise RecNextError(f"--evaluate-every {self.evaluate_every} is for runs counted in --steps: leave it out")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        return json.loads(json.dumps(asdict(self), default=dict))

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path(self.output or f"runs/{self.default_folder}")

    @property
    def default_folder(self) -> str:
        """Name of the run folder where none is given."""
        return "run"

    def peak_lr(self, global_batch: int) -> tuple[float, str]:
        """The learning rate and the sentence that explains it.

        Args:
            global_batch: images an optimizer step, over all processes and accumulated batches.
        """
        if self.lr is not None:
            return self.lr, f"batch {global_batch} → lr {self.lr:g} (as given)"
        lr = self.base_lr * global_batch / self.base_batch
        return lr, f"batch {global_batch} → lr {lr:g} ({self.base_lr:g} * batch / {self.base_batch})"

    def warmup(self, steps_per_epoch: int) -> float:
        """Length of the warm-up in optimizer steps; a fraction where `warmup_epochs` is one."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        if self.warmup_epochs is not None:
            return self.warmup_epochs * steps_per_epoch
        return min(5.0 * steps_per_epoch, self.total_steps(steps_per_epoch) / 10)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Length of the run in optimizer steps."""
        return self.epochs * steps_per_epoch if self.steps is None else self.steps

    def length(self) -> str:
        """The length of the run in words: "1 epoch", "80000 steps"."""
        return f"{counted(self.epochs, 'epoch')}" if self.steps is None else counted(self.steps, "step")


@dataclass(frozen=True, kw_only=True)
class NetworkRunSettings(LoopSettings):
    """Settings of a run that trains a network of timm.

    Args:
        model: timm name of the network, or of the backbone.
        model_args: further constructor arguments as JSON, e.g. '{"drop_path_rate": 0.1}'.
        pretrained: start from the published ImageNet weights, downloaded when not cached.
        checkpoint: start from these weights instead, a file, a run folder or a hub id; a last layer for other
            classes is new.
    """

    model: str = "recnext_m3"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    checkpoint: Optional[str] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in sorted(_DECIDED_ELSEWHERE & self.model_args.keys()):
            raise RecNextError(
                f"--model-args may not hold {name}: the data, the task and other flags decide it; leave it out"
            )
        if self.freeze_epochs and self.from_scratch:
            raise RecNextError(
                f"--freeze-epochs is {self.freeze_epochs} without weights to keep: give --pretrained or --checkpoint"
            )

    @property
    def from_scratch(self) -> bool:
        """Whether the weights start random."""
        return not (self.pretrained or self.checkpoint)

    @property
    def start(self) -> str:
        """What the weights start from, in words."""
        return self.checkpoint or ("published weights" if self.pretrained else "scratch")

    @property
    def advice(self) -> str:
        """A line for a run from scratch; empty for others."""
        return "from scratch: on small data --pretrained or --checkpoint reach more in less time" * self.from_scratch

    @property
    def network(self) -> str:
        """The model's name without the tag of its weights."""
        return self.model.partition(".")[0]


def counted(number: int, what: str, plural: str = "s") -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{number} {what}{plural * (number != 1)}"


def require(settings: Any, name: str, holds: bool, expected: str) -> None:
    """Raises RecNextError with the flag, its value and what was expected unless it `holds`."""
    if not holds:
        value = getattr(settings, name)
        shown = " ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
        raise RecNextError(f"--{name.replace('_', '-')} is {shown}: expected {expected}")
