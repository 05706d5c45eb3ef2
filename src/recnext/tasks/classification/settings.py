"""Everything a classification run can be told."""

from dataclasses import dataclass
from typing import Literal, Optional, Union

from recnext.data import Augmentation
from recnext.data.augmentation import EraseMode
from recnext.engine.settings import NetworkRunSettings, require
from recnext.errors import RecNextError

_SMALL_BATCH = 64  # smaller ones learn at its rate: AdamW's steps shrink less with the batch than the rule says


@dataclass(frozen=True, kw_only=True)
class TrainSettings(NetworkRunSettings):
    """Settings of a classification run; the defaults are sound for fine-tuning.

    Args:
        lr_rule: linear scales the learning rate with the batch; auto does too, but a run from scratch takes at least
            that of base_batch, and one from weights that of 64 images.
        drop_path: rate of stochastic depth; published takes that of the model's published run, left out the model's.
        image_size: side of the square input in pixels.
        label_smoothing: share of the target spread over all classes.
        crop_scale: smallest share of the area that a random crop takes; 1 switches augmentation off.
        hflip: probability of a horizontal flip; 0 where left and right differ.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: a RandAugment policy such as rand-m9-mstd0.5-inc1, 3a for three-augment, or nothing.
        erase_prob: probability of overwriting a random rectangle of a training image.
        erase_mode: what with: pixel (noise), color or zero.
        repeats: augmented copies of an image in an epoch, which then sees 1/repeats of the images.
        fast_resize: resize crops with torch: a fifth less work an image, 0.3 % of the values a level or two apart.
        mixup: alpha of mixup; 0 for none.
        cutmix: alpha of cutmix; 0 for none.
        mix_prob: probability that a batch is mixed.
        mix_switch: probability of cutmix where both are on.
        teacher: distil from it: a timm name, a hub id, a checkpoint file or a run folder.
        teacher_checkpoint: weights for a teacher given by its timm name.
        distillation: hard takes the teacher's answer as a label, soft its probabilities.
        distillation_weight: share of the distillation loss; the rest is the loss on the labels.
        temperature: of soft distillation.
    """

    lr_rule: Literal["auto", "linear"] = "auto"
    model: str = "recnext_m1"
    drop_path: Union[Literal["published"], float, None] = None
    image_size: int = 224
    label_smoothing: float = 0.1
    crop_scale: float = 0.35
    hflip: float = 0.5
    color_jitter: float = 0.2
    auto_augment: str = ""
    erase_prob: float = 0.0
    erase_mode: EraseMode = "pixel"
    repeats: int = 1
    fast_resize: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_prob: float = 1.0
    mix_switch: float = 0.5
    teacher: Optional[str] = None
    teacher_checkpoint: Optional[str] = None
    distillation: Literal["hard", "soft"] = "hard"
    distillation_weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "image_size", self.image_size >= 32, "at least 32 pixels")
        try:
            _ = self.augmentation
        except RecNextError as error:
            raise RecNextError(f"--{error}") from None
        for name in ("label_smoothing", "mix_prob", "mix_switch", "distillation_weight"):
            require(self, name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in ("mixup", "cutmix"):
            require(self, name, 0 <= getattr(self, name) < float("inf"), "a number from 0")
        require(self, "temperature", 0 < self.temperature < float("inf"), "a number above 0")
        if not isinstance(self.drop_path, str):
            require(self, "drop_path", self.drop_path is None or 0 <= self.drop_path < 1, "from 0 to below 1")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise RecNextError(f"--batch-size is {self.batch_size}: mixup and cutmix pair images, expected an even one")
        if self.teacher_checkpoint and not self.teacher:
            raise RecNextError("--teacher-checkpoint needs the teacher's timm name: give --teacher")

    @property
    def default_folder(self) -> str:
        """The network's name."""
        return self.network

    @property
    def augmentation(self) -> Augmentation:
        """What happens to training images."""
        return Augmentation(
            crop_scale=self.crop_scale,
            hflip=self.hflip,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment,
            erase_prob=self.erase_prob,
            erase_mode=self.erase_mode,
            repeats=self.repeats,
            fast_resize=self.fast_resize,
        )

    def peak_lr(self, global_batch: int) -> tuple[float, str]:
        """The learning rate and the sentence that explains it.

        Unless the rule is linear, a run from scratch takes at least that of base_batch, another that of 64 images.
        """
        least = self.base_batch if self.from_scratch else min(_SMALL_BATCH, self.base_batch)
        if self.lr is not None or self.lr_rule == "linear" or global_batch >= least:
            return super().peak_lr(global_batch)
        lr = self.base_lr * least / self.base_batch
        start = "from scratch: " if self.from_scratch else ""
        return (
            lr,
            f"batch {global_batch} → lr {lr:g} ({start}{self.base_lr:g} * max(batch, {least}) / {self.base_batch})",
        )
