"""Everything a training run can be told, and the learning-rate rule."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Optional

from recnext.errors import RecNextError

Precision = Literal["auto", "no", "bf16", "fp16"]

# Arguments that the data, the task and other settings decide.
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

# These say where and how a run is computed, not what; a resumed run may change them.
_FREE_ON_RESUME = ("output", "resume", "workers", "device", "save_every")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of a run; the defaults are sound for fine-tuning.

    Args:
        model: timm name of the network.
        model_args: further constructor arguments as JSON, e.g. '{"drop_path_rate": 0.1}'.
        pretrained: start from the published ImageNet weights, downloaded when not cached.
        checkpoint: start from these weights: a file, a run folder or a hub id.
        image_size: side of the square input in pixels.
        epochs: passes over the training images.
        batch_size: images a step in each process, at least 2.
        lr: learning rate at its peak; by default 1e-3 * batch / 512 over all processes,
            with at least 512 for the batch when training from scratch.
        min_lr: learning rate that the cosine ends at.
        warmup_epochs: linear warm-up from 1e-6; by default a tenth of the run and at most 5.
        weight_decay: of AdamW, not on biases and norms.
        label_smoothing: share of the target spread over all classes.
        crop_scale: smallest share of the area that a random crop takes; 1 switches augmentation off.
        hflip: probability of a horizontal flip; 0 where left and right differ.
        color_jitter: strength of random brightness, contrast and saturation.
        max_unreadable: share of the training images that may be unreadable; they are replaced by others.
        ema: also keep an exponential moving average of the weights, evaluated and saved beside them.
        ema_decay: of that average, a step.
        precision: fp32 is "no"; auto is bf16 on GPUs that have it, else fp32.
        seed: of weights, order and augmentation.
        workers: processes that load images.
        device: auto, cpu, cuda, cuda:1, mps.
        save_every: steps between saves within an epoch; 0 saves after each epoch only.
        output: run folder; by default runs/MODEL.
        resume: go on with the run in that folder.
    """

    model: str = "recnext_m1"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    checkpoint: Optional[str] = None
    image_size: int = 224
    epochs: int = 30
    batch_size: int = 64
    lr: Optional[float] = None
    min_lr: float = 1e-5
    warmup_epochs: Optional[float] = None
    weight_decay: float = 0.025
    label_smoothing: float = 0.1
    crop_scale: float = 0.35
    hflip: float = 0.5
    color_jitter: float = 0.2
    max_unreadable: float = 0.01
    ema: bool = False
    ema_decay: float = 0.9998
    precision: Precision = "auto"
    seed: int = 0
    workers: int = 2
    device: str = "auto"
    save_every: int = 0
    output: Optional[str] = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("workers", 0), ("seed", 0), ("save_every", 0)):
            _require(self, name, getattr(self, name) >= least, f"an integer from {least}")
        _require(self, "image_size", self.image_size >= 32, "at least 32 pixels")
        _require(self, "crop_scale", 0 < self.crop_scale <= 1, "a share above 0, at most 1")
        for name in ("hflip", "label_smoothing", "max_unreadable", "ema_decay"):
            _require(self, name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in ("lr", "min_lr", "warmup_epochs", "weight_decay", "color_jitter"):
            value = getattr(self, name)
            _require(self, name, value is None or 0 <= value < float("inf"), "a number from 0")
        for name in sorted(_DECIDED_ELSEWHERE & self.model_args.keys()):
            raise RecNextError(
                f"--model-args may not hold {name}: the data, the task and other flags decide it; leave it out"
            )
        _require(self, "lr", self.lr is None or self.lr > 0, "above 0, or left out for the rule")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML."""
        return {**asdict(self), "model_args": json.loads(json.dumps(dict(self.model_args)))}

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return Path(self.output or f"runs/{self.model.partition('.')[0]}")

    def peak_lr(self, global_batch: int) -> tuple[float, str]:
        """The learning rate and the sentence that explains it.

        Args:
            global_batch: images a step over all processes.
        """
        if self.lr is not None:
            return self.lr, f"batch {global_batch} → lr {self.lr:g} (as given)"
        if self.pretrained or self.checkpoint:
            lr = 1e-3 * global_batch / 512
            return lr, f"batch {global_batch} → lr {lr:g} (1e-3 * batch / 512)"
        lr = 1e-3 * max(global_batch, 512) / 512
        return lr, f"batch {global_batch} → lr {lr:g} (from scratch: 1e-3 * max(batch, 512) / 512)"

    @property
    def warmup(self) -> float:
        """Warm-up in epochs."""
        return min(5.0, self.epochs / 10) if self.warmup_epochs is None else self.warmup_epochs

    def merged_into(self, stored: Mapping[str, Any]) -> "TrainSettings":
        """The settings to resume with: the run's own, which those given here may repeat but not contradict.

        Args:
            stored: `to_dict` of the run.

        Raises:
            RecNextError: a setting given differs from the run's.
        """
        defaults, given = TrainSettings().to_dict(), self.to_dict()
        merged = dict(given)
        for name in (entry.name for entry in fields(self) if entry.name not in _FREE_ON_RESUME):
            if name not in stored:
                continue
            same = given[name] in (defaults[name], stored[name])
            if name == "model_args":  # a run's are resolved: they hold a checkpoint's as well
                same = given[name].items() <= stored[name].items()
            if not same:
                raise RecNextError(
                    f"--{name.replace('_', '-')} {given[name]} differs from the {stored[name]} this run was started "
                    "with: leave it out to resume, or start a new run with another --output"
                )
            merged[name] = stored[name]
        return TrainSettings(**merged)


def _require(settings: TrainSettings, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise RecNextError(f"--{name.replace('_', '-')} is {getattr(settings, name)}: expected {expected}")
