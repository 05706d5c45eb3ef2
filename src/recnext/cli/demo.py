"""`recnext demo`."""

import time
from pathlib import Path

from rich.table import Table

from recnext.screen import Screen, bold
from recnext.study.demo.classification import DemoResult, run_demo


def run(output: str = "runs/demo", epochs: int = 8) -> int:
    """Trains a small network on real digits, evaluates it, folds its BatchNorms and draws predictions.

    Args:
        output: folder for the run and its pictures; an earlier demo in it is replaced.
        epochs: of training.
    """
    console = Screen()
    started = time.perf_counter()
    folder = Path(output)
    result = run_demo(folder, epochs=epochs, console=console)
    console.print(_table(result, folder, time.perf_counter() - started))
    console.print(f"Next, with {folder}/data or your own DATA/train/CLASS/*, DATA/val/CLASS/*:\n")
    for command in next_commands(folder):
        console.print(f"  {command}")
    return 0


def next_commands(folder: Path) -> tuple[str, str, str]:
    """What to run next: as they stand, they work on the demo's own data."""
    return (
        f"recnext train {folder}/data --checkpoint {folder} --model recnext_m0 --image-size 32 --epochs 3 "
        f"--hflip 0 --output {folder}/tuned",
        f"recnext eval {folder}/data --checkpoint {folder}/tuned --output {folder}/tuned/evaluation",
        f"recnext predict {folder}/data/val/7 --checkpoint {folder}/tuned --topk 2",
    )


def _table(result: DemoResult, folder: Path, seconds: float) -> Table:
    table = Table(title="RecNeXt on handwritten digits", show_header=False, title_justify="left")
    before, after = result.parameters
    slow, fast = result.milliseconds
    table.add_row("held-out accuracy", bold(f"{result.accuracy.top1:.2f} %") + f" of {result.accuracy.images} images")
    table.add_row(
        "after folding", f"{result.fused_accuracy.top1:.2f} %, logits differ by {result.fusion_difference:.0e}"
    )
    table.add_row("parameters", f"{before:,} → {after:,} folded")
    table.add_row("one image", f"{slow:.2f} ms → {fast:.2f} ms folded")
    table.add_row("time", f"{result.training_seconds:.0f} s training, {seconds:.0f} s in all")
    for name, text in (
        ("best.safetensors", "weights; fused.safetensors are the folded ones"),
        ("curves.png", "loss, accuracy, learning rate"),
        ("confusion.png", "which digits are taken for which"),
        ("samples.png", "predictions, the mistakes first"),
    ):
        if (folder / name).exists():
            table.add_row(str(folder / name), text)
    return table
