from engine.runs import settings
from recnext.study.demo.digits import write_folders
from recnext.tasks.classification.job import ClassificationJob
from tasks.contract import TaskContract


class TestClassification(TaskContract):
    job = ClassificationJob()
    depth = 2

    def settings(self, **changes):
        return settings(batch_size=10, ema=True, lr=0.01, model_args={"drop_path_rate": 0.2}, **changes)

    def write_data(self, root):
        write_folders(root, per_class=3)
        return root

    def image(self, root, split):
        return min((root / split / "7").iterdir())

    def relabel(self, root, split):
        one, two = (min((root / split / digit).iterdir()) for digit in "12")
        one.rename(root / split / "2" / one.name)
        two.rename(root / split / "1" / two.name)
