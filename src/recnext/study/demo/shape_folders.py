"""Collections of synthetic scenes on disk, in the layouts of COCO and of ADE20K."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recnext.errors import RecNextError
from recnext.tasks.detection.rle import encode_masks

from .shapes import CLASS_NAMES, Scene, draw_scene

CATEGORY_IDS = tuple(3 * label + 2 for label in range(len(CLASS_NAMES)))  # with gaps, as COCO's have
_QUALITY = 95  # of the JPEGs
_SPLIT_SEED = {"train": 0, "val": 1}


@dataclass(frozen=True, kw_only=True)
class ShapeCollection:
    """How many scenes of which kind.

    Args:
        train: training images.
        val: images held out.
        size: height and width in pixels.
        seed: of everything.
        shapes: fewest and most shapes of an image.
        empty: share of the images that show nothing but background.
        crowds: share that holds a crowd.
    """

    train: int = 200
    val: int = 50
    size: tuple[int, int] = (128, 128)
    seed: int = 0
    shapes: tuple[int, int] = (2, 6)
    empty: float = 0.05
    crowds: float = 0.1

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1:
            raise RecNextError(f"train={self.train}, val={self.val}: both need at least one image")
        if min(self.empty, self.crowds) < 0 or self.empty + self.crowds > 1:
            raise RecNextError(f"empty={self.empty}, crowds={self.crowds}: expected shares that add up to at most 1")

    def scenes(self, split: str) -> Iterator[Scene]:
        """The scenes of "train" or "val"; empty and crowded ones are spread evenly over the split."""
        seed = 2 * self.seed + _SPLIT_SEED[split]
        for index in range(getattr(self, split)):
            empty = _falls(index, self.empty)
            crowd = not empty and _falls(index + 1, self.crowds)
            yield draw_scene(index, seed=seed, size=self.size, shapes=(0, 0) if empty else self.shapes, crowd=crowd)


def _falls(index: int, share: float) -> bool:
    """Whether one more whole unit is reached at `index` when each index adds `share`."""
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def write_coco(root: Path, collection: ShapeCollection) -> None:
    """Writes ``root/{train,val}/NUMBER.jpg`` and ``root/annotations/instances_{train,val}.json``.

    Masks are compressed RLE; category ids have gaps; empty images are listed without annotations; a crowd is one
    annotation with ``iscrowd`` 1.

    Args:
        root: made where missing; files of an earlier call are written again.
        collection: what to draw.

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split in _SPLIT_SEED:
        (root / split).mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, scene in enumerate(collection.scenes(split), start=1):
            name = f"{number:06d}.jpg"
            _save(root / split / name, scene)
            height, width = scene.image.shape[:2]
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            encoded = encode_masks(np.stack([each.mask for each in scene.instances])) if scene.instances else []
            for instance, rle in zip(scene.instances, encoded, strict=True):
                x1, y1, x2, y2 = instance.box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": CATEGORY_IDS[instance.label],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": instance.area,
                        "segmentation": rle,
                        "iscrowd": int(instance.crowd),
                    }
                )
        categories = [
            {"id": number, "name": name, "supercategory": "shape"}
            for number, name in zip(CATEGORY_IDS, CLASS_NAMES, strict=True)
        ]
        content = {
            "info": {"description": f"synthetic shapes, seed {collection.seed}"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def write_ade(root: Path, collection: ShapeCollection) -> None:
    """Writes ``root/{images,annotations}/{training,validation}/NUMBER.{jpg,png}`` and ``root/classes.txt``.

    In a label map 1 is background and 2, 3, ... are the shapes, as ADE20K counts from 1; classes.txt has a name a line.

    Args:
        root: made where missing; files of an earlier call are written again.
        collection: what to draw.
    """
    for split, folder in (("train", "training"), ("val", "validation")):
        images, labels = root / "images" / folder, root / "annotations" / folder
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(collection.scenes(split), start=1):
            _save(images / f"{number:06d}.jpg", scene)
            Image.fromarray((scene.semantic + 1).astype(np.uint8)).save(labels / f"{number:06d}.png")
    (root / "classes.txt").write_text("\n".join(("background", *CLASS_NAMES)) + "\n", encoding="utf-8")


def _save(path: Path, scene: Scene) -> None:
    Image.fromarray(scene.image).save(path, quality=_QUALITY, subsampling=0)
