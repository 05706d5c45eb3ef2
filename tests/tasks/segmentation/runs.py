"""Settings of segmentation runs that take a second, and data for them."""

from typing import Any

from recnext.study.demo.shape_folders import ShapeCollection, write_ade
from recnext.tasks.segmentation.settings import SegmentSettings


def settings(**changes: Any) -> SegmentSettings:
    tiny = {
        "curves": False,
        "model": "test_recnext_m",
        "neck_channels": 8,
        "head_channels": 8,
        "image_size": 32,
        "epochs": 2,
        "batch_size": 4,
        "lr": 1e-3,
        "workers": 0,
        "device": "cpu",
    }
    return SegmentSettings(**{**tiny, **changes})


def write_data(root, *, train: int = 12, val: int = 5):
    write_ade(root, ShapeCollection(train=train, val=val, size=(40, 56), seed=3))
    return root
