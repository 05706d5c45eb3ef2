"""Detectors and targets for the tests."""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from golden_fill import golden, golden_input, golden_tensor
from recnext.tasks.detection import Detector, create

TINY: dict[str, Any] = {"channels": 16, "box_features": 32, "mask_layers": 1, "min_size": 64, "max_size": 96}


def tiny(**options: Any) -> Detector:
    """A detector that runs in milliseconds."""
    torch.manual_seed(0)
    return create(options.pop("backbone", "test_recnext_m"), **{"num_classes": 3, **TINY, **options})


def published_state(name: str = "recnext_m3") -> dict[str, Tensor]:
    """A state dict with MMDetection's keys, filled from the keys alone, as that of the golden values."""
    expected = golden("mask_rcnn_m3.json")
    body = timm.create_model(name).state_dict()
    shapes = {f"backbone.{key}": tuple(value.shape) for key, value in body.items() if not key.startswith("head")}
    shapes |= {key: tuple(shape) for key, shape in expected["keys"].items()}
    assert len(shapes) == expected["state_dict_entries"]
    return {key: golden_tensor(key, shape) * expected["scaled_keys"].get(key, 1) for key, shape in shapes.items()}


def golden_images() -> Tensor:
    height, width = golden("mask_rcnn_m3.json")["size"]
    coarse = golden_input((2, 3, height // 16, width // 16))
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


def take_as_normalised(model: Detector) -> None:
    """The golden images are normalised already, and keep their size."""
    model.transform.image_mean, model.transform.image_std = [0.0] * 3, [1.0] * 3
    model.transform.min_size, model.transform.max_size = golden("mask_rcnn_m3.json")["size"]


def golden_targets() -> list[dict[str, Tensor]]:
    """Boxes with the ellipse inscribed in each as its mask."""
    expected = golden("mask_rcnn_m3.json")
    height, width = expected["size"]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    targets = []
    for boxes, classes in zip(*(expected["loss_targets"][key] for key in ("boxes", "classes_from_0")), strict=True):
        masks = [
            ((x - (x1 + x2) / 2) / ((x2 - x1) / 2)) ** 2 + ((y - (y1 + y2) / 2) / ((y2 - y1) / 2)) ** 2 <= 1
            for x1, y1, x2, y2 in boxes
        ]
        labels = torch.tensor(classes) + 1
        targets.append({"boxes": torch.tensor(boxes), "labels": labels, "masks": torch.stack(masks).byte()})
    return targets


class FirstSamples:
    """Takes the first positives and negatives where training draws them at random."""

    def __init__(self, count: int, share: float) -> None:
        self.count, self.share = count, share

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        both: tuple[list[Tensor], list[Tensor]] = ([], [])
        for each in labels:
            positive = torch.where(each >= 1)[0][: int(self.count * self.share)]
            negative = torch.where(each == 0)[0][: self.count - len(positive)]
            for chosen, collected in zip((positive, negative), both, strict=True):
                collected.append(torch.zeros_like(each, dtype=torch.uint8).scatter(0, chosen, 1))
        return both


def freeze_statistics(model: nn.Module) -> None:
    """Training mode with BatchNorm in eval mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def square_target(label: int = 1, *, size: int = 64, masks: bool = True) -> dict[str, Tensor]:
    """One square in the middle."""
    a, b = size // 4, 3 * size // 4
    target = {"boxes": torch.tensor([[float(a), float(a), float(b), float(b)]]), "labels": torch.tensor([label])}
    if masks:
        target["masks"] = torch.zeros(1, size, size, dtype=torch.uint8)
        target["masks"][:, a:b, a:b] = 1
    return target
