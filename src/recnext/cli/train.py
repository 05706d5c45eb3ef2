"""`recnext train`."""

from typing import Any

from recnext.tasks.classification.job import ClassificationJob
from recnext.tasks.classification.settings import TrainSettings

from .training_run import run_training


def run(data: str, **settings: Any) -> int:
    """Trains or fine-tunes on folders of images, DATA/train/CLASS/* and DATA/val/CLASS/*, or on a known data set.

    --config takes a YAML file or a recipe's name, such as imagenet_m_base; flags go over it. Leaves a run folder with
    best.safetensors, last.safetensors, metrics.jsonl, config.yaml, recipe.yaml and summary.json. Ctrl-C and SIGTERM
    save at the end of a step; --resume goes on exactly there. Also runs under torchrun and accelerate launch.

    Args:
        data: folder that holds train and val; or imagenet:ROOT, cifar10:ROOT, cifar100:ROOT, flowers102:ROOT,
            inat2018:ROOT, inat2019:ROOT, tar:ROOT, wds:ROOT, hfds:NAME, hfids:NAME.
    """
    return run_training(ClassificationJob(), TrainSettings(**settings), given=settings, data=data)
