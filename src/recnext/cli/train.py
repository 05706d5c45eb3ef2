"""`recnext train`."""

from dataclasses import fields
from typing import Any

from accelerate import PartialState
from rich.console import Console

from recnext.cli.parser import given_arguments
from recnext.training import TrainSettings, train_on_folders
from recnext.training.failures import DivergedError


def run(data: str, **settings: Any) -> int:
    """Trains or fine-tunes on folders of images, DATA/train/CLASS/* and DATA/val/CLASS/*, or on a known data set.

    --config takes a YAML file or a recipe's name, such as imagenet_m_base; flags go over it. Leaves a run folder with
    best.safetensors, last.safetensors, metrics.jsonl, config.yaml, recipe.yaml and summary.json. Ctrl-C and SIGTERM
    save at the end of a step; --resume goes on exactly there. Also runs under torchrun and accelerate launch.

    Args:
        data: folder that holds train and val; or imagenet:ROOT, cifar10:ROOT, cifar100:ROOT, flowers102:ROOT,
            inat2018:ROOT, inat2019:ROOT, tar:ROOT, wds:ROOT, hfds:NAME, hfids:NAME.
    """
    chosen = TrainSettings(**settings)
    console = Console()
    given = given_arguments() & {entry.name for entry in fields(TrainSettings)}
    try:
        result = train_on_folders(chosen, data=data, given=given, console=console)
    except DivergedError:
        if PartialState().is_main_process:
            raise
        return 2  # one line says it for all
    console.quiet = not PartialState().is_main_process
    if result.interrupted is not None:
        _, step = result.position
        console.print(
            f"stopped in {result.where} after step {step}, saved in {chosen.folder}: --resume goes on from there",
            highlight=False,
            soft_wrap=True,
        )
        return 128 + result.interrupted
    assert result.best is not None
    console.print(
        f"best top-1 {result.best['top1']:.2f} in epoch {result.best['epoch'] + 1}: "
        f"{chosen.folder / 'best.safetensors'}",
        highlight=False,
        soft_wrap=True,
    )
    return 0
