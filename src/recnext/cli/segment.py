"""`recnext segment`: train, evaluate and use segmenters."""

from pathlib import Path
from typing import Any, Optional

from recnext.screen import Screen
from recnext.study.demo.segmentation import run_demo
from recnext.tasks.segmentation.evaluation import SegmentationEvaluation
from recnext.tasks.segmentation.job import SegmentationJob
from recnext.tasks.segmentation.predict import SegmentationSettings
from recnext.tasks.segmentation.settings import SegmentSettings

from .demos import show_demo
from .evaluating import show_evaluation
from .predicting import predict_pictures
from .shared import require_at_least
from .training_run import run_training


def train(data: str, **settings: Any) -> int:
    """Trains a Semantic FPN on images with masks.

    DATA is ADE20K's layout (DATA/images/training, DATA/annotations/training and the same for validation) or
    DATA/train/images, DATA/train/masks, DATA/val/images, DATA/val/masks with DATA/classes.txt. The defaults suit a few
    hundred images; --config ade20k_semantic_fpn_80k is the published recipe. Ctrl-C and SIGTERM save at the end of a
    step; --resume goes on exactly there. Also runs under torchrun and accelerate launch.

    Args:
        data: folder of images and masks.
    """
    return run_training(SegmentationJob(), SegmentSettings(**settings), given=settings, data=data)


def evaluation(
    data: str, *, json: bool = False, output: Optional[str] = None, overwrite: bool = False, **settings: Any
) -> int:
    """Measures mIoU, mAcc and aAcc of a segmenter from one confusion matrix over all pixels.

    Also under torchrun or accelerate launch: the processes share the images, and the numbers are the same.

    Args:
        data: as for train; the validation images are used. Or a folder that holds images and masks.
        json: print JSON instead of tables.
        output: folder for result.json and per_class.csv.
        overwrite: replace files in that folder that no evaluation wrote.
    """
    return show_evaluation(SegmentationEvaluation(**settings), data, json=json, output=output, overwrite=overwrite)


def predict(
    images: list[str], *, json: bool = False, output: str = "runs/segmented", overwrite: bool = False, **settings: Any
) -> int:
    """Segments images and videos; writes a drawn overlay and a mask for each.

    NAME.png is the overlay with its legend; NAME_mask.png holds the class numbers as a palette image. A video becomes
    NAME.mp4. classes.json lists the classes and their shares of every image and frame. Images that cannot be read are
    reported at the end and do not stop the others; the exit status is then 1.

    Args:
        images: files, folders (searched to any depth), patterns, http(s) addresses, videos.
        json: print a JSON list with an object for each image.
        output: folder for the pictures.
        overwrite: replace files in that folder that no such command wrote, where else NAME_2.png is taken.
    """
    return predict_pictures(SegmentationSettings(**settings), images, json=json, output=output, overwrite=overwrite)


def demo(output: str = "runs/segment_demo", epochs: int = 11) -> int:
    """Trains a narrow segmenter on synthetic scenes, evaluates it, folds its BatchNorms and draws predictions.

    Args:
        output: folder for data, run and pictures; an earlier demo in it is replaced.
        epochs: of training.
    """
    require_at_least(1, epochs=epochs)
    screen, folder = Screen(), Path(output)
    lines = run_demo(folder, epochs=epochs, console=screen)
    files = {
        "best.safetensors": "weights",
        "curves.png": "loss, accuracy, learning rate",
        "samples.png": "held-out scenes: image, truth, prediction",
        "evaluation/per_class.csv": "IoU and accuracy of every class",
    }
    show_demo(screen, "Semantic FPN on synthetic scenes", lines, folder, files, next_commands(folder))
    return 0


def next_commands(folder: Path) -> tuple[str, str]:
    """What to run next: as they stand, they work on the demo's own data."""
    return (
        f"recnext segment predict {folder}/data/images/validation --checkpoint {folder} --output {folder}/predictions",
        f"recnext segment eval {folder}/data --checkpoint {folder} --output {folder}/evaluation",
    )


run = {"train": train, "eval": evaluation, "predict": predict, "demo": demo}
