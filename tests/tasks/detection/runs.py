"""Settings of detection runs that take a second, and data for them."""

import json
from pathlib import Path
from typing import Any

from recnext.study.demo.shape_folders import ShapeCollection, write_coco
from recnext.tasks.detection.settings import DetectSettings


def settings(**changes: Any) -> DetectSettings:
    tiny = {
        "curves": False,
        "model": "test_recnext_m",
        "channels": 8,
        "box_features": 16,
        "mask_layers": 1,
        "anchor_scale": 4.0,
        "proposals": 20,
        "roi_samples": 16,
        "image_size": 48,
        "epochs": 2,
        "batch_size": 4,
        "lr": 1e-3,
        "workers": 0,
        "device": "cpu",
    }
    return DetectSettings(**{**tiny, **changes})


def write_data(root: Path, *, train: int = 12, val: int = 5, **kinds: Any) -> Path:
    collection = {"size": (48, 64), "seed": 3, "empty": 0.1, "crowds": 0.2, "shapes": (2, 4), **kinds}
    write_coco(root, ShapeCollection(train=train, val=val, **collection))
    return root


def edit(root: Path, split: str, change: Any) -> Path:
    """Changes an annotation file in place."""
    path = root / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path
