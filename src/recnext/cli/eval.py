"""`recnext eval`."""

from typing import Any, Optional

from recnext.deploy.optimize import forward_for
from recnext.tasks.classification.evaluation import ClassifierEvaluation

from .evaluating import show_evaluation


def run(
    data: str, *, json: bool = False, output: Optional[str] = None, overwrite: bool = False, **settings: Any
) -> int:
    """Measures the accuracy of a checkpoint on labelled images, DATA/val/CLASS/* or DATA/CLASS/*.

    Also under torchrun or accelerate launch: the processes share the images, and the numbers are the same.

    Args:
        data: folder that holds val, or the class folders themselves; a data set such as imagenet:ROOT, cifar100:ROOT,
            wds:ROOT; or a test set of ImageNet: imagenet-v2:, imagenet-a:, imagenet-r:, imagenet-sketch:,
            imagenet-c:ROOT.
        json: print JSON instead of a table.
        output: folder for result.json, per_class.csv and confusion.png.
        overwrite: replace files in that folder that no evaluation wrote.
    """
    chosen = ClassifierEvaluation(**settings)
    return show_evaluation(chosen, data, json=json, output=output, overwrite=overwrite, accelerate=forward_for)
