"""The network behind the server: prepares images, classifies batches, explains one."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor, nn

from recnext.data import normalise
from recnext.deploy.optimize import optimize
from recnext.tasks.classification.activation_maps import class_activation_maps
from recnext.tasks.classification.predict import ClassScore, class_names_of, prepared_input, top_classes

from .explanation import can_explain


class ServedClassifier:
    """A classifier made ready for batches of up to a size.

    Args:
        network: from `recnext.load`, on the device to compute on.
        name: what to call it.
        image_size: height and width in pixels; by default those it was trained at.
        largest_batch: a power of two; this batch and its halves are compiled for here.
        backend: of `recnext.optimize`.
        precision: of `recnext.optimize`.
        threads: CPU threads; by default torch's.

    Raises:
        RecNextError: not a classifier of grey or RGB images, or as `recnext.optimize`.
        MissingExtraError: as `recnext.optimize`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        image_size: Optional[tuple[int, int]] = None,
        largest_batch: int = 8,
        backend: str = "auto",
        precision: str = "auto",
        threads: Optional[int] = None,
    ) -> None:
        self.network = network.eval()
        self.name = _in_unicode(name)
        self.class_names = tuple(_in_unicode(class_name) for class_name in class_names_of(network))
        self.preparation, self.channels = prepared_input(network, image_size)
        self.device = next(network.parameters()).device
        example = torch.randn(1, self.channels, *self.preparation.size, device=self.device)
        self._forward = optimize(network, example, backend=backend, precision=precision, threads=threads)
        self.explains = can_explain(network)
        batch = 2
        with torch.inference_mode():
            while batch <= largest_batch:
                self._forward(example.repeat(batch, 1, 1, 1))
                batch *= 2
        if self.explains:  # its imports take seconds, which the first request would wait for
            self.explain(torch.zeros(self.channels, *self.preparation.size, dtype=torch.uint8))

    @property
    def backend(self) -> str:
        """Backend and precision."""
        return f"{self._forward.backend} {self._forward.precision}"

    @torch.inference_mode()
    def logits(self, images: list[Tensor]) -> Sequence[Tensor]:
        """(classes,) float32 on the CPU for each prepared image."""
        return self._forward(self._normalised(images)).cpu().unbind()

    def top(self, logits: Tensor, topk: int) -> tuple[ClassScore, ...]:
        """The likeliest classes of an image's logits."""
        return top_classes(logits[None], self.class_names, topk)[0]

    def explain(self, image: Tensor, *, label: Optional[int] = None) -> Tensor:
        """Where a prepared image speaks for a class, by Grad-CAM.

        Args:
            image: uint8 (channels, H, W).
            label: index of the class; by default the likeliest.

        Returns:
            (H, W) float32 in 0..1.
        """
        x = self._normalised([image])
        if label is None:
            with torch.no_grad():
                label = int(self.network(x).argmax())
        return class_activation_maps(self.network, x, [label])[0]

    def _normalised(self, images: list[Tensor]) -> Tensor:
        preparation = self.preparation
        return normalise(torch.stack(images), mean=preparation.mean, std=preparation.std, device=self.device)


def _in_unicode(name: str) -> str:
    """A name as JSON can hold it: bytes of a file name that are no UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
