"""`recnext detect`: train, evaluate and use detectors."""

from pathlib import Path
from typing import Any, Optional

from recnext.screen import Screen
from recnext.study.demo.detection import run_demo
from recnext.tasks.detection.evaluation import DetectionEvaluation
from recnext.tasks.detection.job import DetectionJob
from recnext.tasks.detection.predict import DetectionSettings
from recnext.tasks.detection.settings import DetectSettings

from .demos import show_demo
from .evaluating import show_evaluation
from .predicting import predict_pictures
from .shared import require_at_least
from .training_run import run_training


def train(data: str, **settings: Any) -> int:
    """Trains a Mask R-CNN on images with COCO annotations.

    DATA holds train/ and val/ with images and annotations/instances_train.json and instances_val.json; COCO 2017's own
    names are known too. The defaults suit a few hundred images; --config coco_mask_rcnn_1x is the published recipe.
    Ctrl-C and SIGTERM save at the end of a step; --resume goes on exactly there. Also runs under torchrun and
    accelerate launch.

    Args:
        data: folder of images and annotations.
    """
    return run_training(DetectionJob(), DetectSettings(**settings), given=settings, data=data)


def evaluation(
    data: str, *, json: bool = False, output: Optional[str] = None, overwrite: bool = False, **settings: Any
) -> int:
    """Measures a detector's average precision as COCO does, of boxes and of masks.

    Also under torchrun or accelerate launch: the processes share the images, and the numbers are the same.

    Args:
        data: as for train; the validation images are used. With --annotations, the folder of the images.
        json: print JSON instead of tables.
        output: folder for result.json, per_class.csv and detections.json.
        overwrite: replace files in that folder that no evaluation wrote.
    """
    return show_evaluation(DetectionEvaluation(**settings), data, json=json, output=output, overwrite=overwrite)


def predict(
    images: list[str], *, json: bool = False, output: str = "runs/detected", overwrite: bool = False, **settings: Any
) -> int:
    """Finds objects in images and videos; writes a drawn picture of each and all detections.

    NAME.png shows boxes, masks, classes and scores; a video becomes NAME.mp4. detections.json lists them as a COCO
    results file does, with the file, the frame and class names beside. Images that cannot be read are reported at the
    end and do not stop the others; the exit status is then 1.

    Args:
        images: files, folders (searched to any depth), patterns, http(s) addresses, videos.
        json: print a JSON list with an object for each image.
        output: folder for pictures and detections.json.
        overwrite: replace files in that folder that no such command wrote, where else NAME_2.png is taken.
    """
    return predict_pictures(DetectionSettings(**settings), images, json=json, output=output, overwrite=overwrite)


def demo(output: str = "runs/detect_demo", steps: int = 640, images: int = 600) -> int:
    """Trains a narrow detector on synthetic scenes, evaluates it, folds its BatchNorms and draws detections.

    Args:
        output: folder for data, run and pictures; an earlier demo in it is replaced.
        steps: of training, eight images each.
        images: to train on; an eighth as many are held out.
    """
    require_at_least(1, steps=steps)
    require_at_least(10, images=images)
    screen, folder = Screen(), Path(output)
    lines = run_demo(folder, steps=steps, images=(images, max(images // 8, 5)), console=screen)
    files = {
        "best.safetensors": "weights",
        "curves.png": "loss, accuracy, learning rate",
        "samples.png": "held-out scenes: annotations above, detections below",
        "evaluation/per_class.csv": "average precision of every class",
        "evaluation/detections.json": "all detections, as a COCO results file",
    }
    show_demo(screen, "Mask R-CNN on synthetic scenes", lines, folder, files, next_commands(folder))
    return 0


def next_commands(folder: Path) -> tuple[str, str]:
    """What to run next: as they stand, they work on the demo's own data."""
    return (
        f"recnext detect predict {folder}/data/val --checkpoint {folder} --output {folder}/predictions",
        f"recnext detect eval {folder}/data --checkpoint {folder} --output {folder}/evaluation",
    )


run = {"train": train, "eval": evaluation, "predict": predict, "demo": demo}
