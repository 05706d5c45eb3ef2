"""Mixup and cutmix (timm's), and the loss that goes with their soft targets."""

from typing import Optional

from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from .settings import TrainSettings


class Mixing:
    """Mixes a batch with its reverse; label smoothing is inside the soft targets.

    Draws from NumPy's generator, which the loop seeds from the step.

    Args:
        settings: of the run.
        num_classes: width of the targets.
    """

    def __init__(self, settings: TrainSettings, *, num_classes: int) -> None:
        self.mixup: Optional[Mixup] = None
        self.criterion: nn.Module = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        if settings.mixup or settings.cutmix:
            self.mixup = Mixup(
                mixup_alpha=settings.mixup,
                cutmix_alpha=settings.cutmix,
                prob=settings.mix_prob,
                switch_prob=settings.mix_switch,
                mode="batch",
                label_smoothing=settings.label_smoothing,
                num_classes=num_classes,
            )
            self.criterion = SoftTargetCrossEntropy()

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch to train on.

        Args:
            images: float (N, 3, H, W), changed in place.
            labels: int64 (N,).

        Returns:
            Images and soft targets float (N, num_classes), or both as they were where nothing is mixed. An image
            without a partner, which an unreadable file can leave, is left out.
        """
        if self.mixup is None:
            return images, labels
        even = len(images) // 2 * 2
        mixed: tuple[Tensor, Tensor] = self.mixup(images[:even], labels[:even])
        return mixed
