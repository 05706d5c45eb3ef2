"""`recnext demo`."""

from pathlib import Path

from recnext.screen import Screen
from recnext.study.demo.classification import run_demo

from .demos import show_demo


def run(output: str = "runs/demo", epochs: int = 8) -> int:
    """Trains a small network on real digits, evaluates it, folds its BatchNorms and draws predictions.

    Args:
        output: folder for the run and its pictures; an earlier demo in it is replaced.
        epochs: of training.
    """
    screen, folder = Screen(), Path(output)
    lines = run_demo(folder, epochs=epochs, console=screen)
    files = {
        "best.safetensors": "weights; fused.safetensors are the folded ones",
        "curves.png": "loss, accuracy, learning rate",
        "confusion.png": "which digits are taken for which",
        "samples.png": "predictions, the mistakes first",
    }
    show_demo(screen, "RecNeXt on handwritten digits", lines, folder, files, next_commands(folder))
    return 0


def next_commands(folder: Path) -> tuple[str, str, str]:
    """What to run next: as they stand, they work on the demo's own data."""
    return (
        f"recnext train {folder}/data --checkpoint {folder} --model recnext_m0 --image-size 32 --epochs 3 "
        f"--hflip 0 --output {folder}/tuned",
        f"recnext eval {folder}/data --checkpoint {folder}/tuned --output {folder}/tuned/evaluation",
        f"recnext predict {folder}/data/val/7 --checkpoint {folder}/tuned --topk 2",
    )
