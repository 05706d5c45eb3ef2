from recnext.tasks.detection.job import DetectionJob
from tasks.contract import TaskContract
from tasks.detection.runs import edit, settings, write_data


class TestDetection(TaskContract):
    job = DetectionJob()

    def settings(self, **changes):
        return settings(batch_size=3, scale=(0.8, 1.2), ema=True, model_args={"drop_path_rate": 0.1}, **changes)

    def write_data(self, root):
        return write_data(root)

    def image(self, root, split):
        return root / split / "000001.jpg"

    def relabel(self, root, split):
        def swap(content):
            first, second = content["categories"][:2]
            for record in content["annotations"]:
                if record["category_id"] in (first["id"], second["id"]):
                    record["category_id"] = first["id"] + second["id"] - record["category_id"]

        edit(root, split, swap)
