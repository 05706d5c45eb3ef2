import numpy as np
from PIL import Image

from recnext.tasks.segmentation.job import SegmentationJob
from tasks.contract import TaskContract
from tasks.segmentation.runs import settings, write_data

FOLDERS = {"train": "training", "val": "validation"}


class TestSegmentation(TaskContract):
    job = SegmentationJob()

    def settings(self, **changes):
        return settings(ema=True, model_args={"drop_path_rate": 0.1}, **changes)

    def write_data(self, root):
        return write_data(root)

    def image(self, root, split):
        return min((root / "images" / FOLDERS[split]).iterdir())

    def relabel(self, root, split):
        path = min((root / "annotations" / FOLDERS[split]).iterdir())
        Image.fromarray(np.ones_like(np.array(Image.open(path)))).save(path)
