"""The learning rates that training sets, against the published formula, epoch by epoch.

    python benchmarks/schedule.py                       # every recipe with the published schedule
    python benchmarks/schedule.py --recipe imagenet_m_base --batch 2048 --print

The formula, in epoch e of T with t = max(e - 1, 0), in float64: 1e-6 + t (base - 1e-6) / 5 while t < 5, then
1e-5 + (base - 1e-5) (1 + cos(pi t / T)) / 2; base is 1e-3 * batch / 512. What is compared with it is what the optimizer
holds in the first and the last step of each epoch. Exits with 1 where they differ by more than 1e-12 of the formula.
"""

import argparse
import math
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table

from recnext.cli.recipes import recipes
from recnext.engine.resuming import read_settings
from recnext.engine.schedule import LearningRate
from recnext.tasks.classification.settings import TrainSettings

IMAGES = 1_281_167  # of ImageNet's training set
TOLERANCE = 1e-12


def formula(epoch: int, *, base: float, epochs: int) -> float:
    t = max(epoch - 1, 0)
    if t < 5:
        return 1e-6 + t * (base - 1e-6) / 5
    return 1e-5 + (base - 1e-5) * (1 + math.cos(math.pi * t / epochs)) / 2


def set_by_training(settings: TrainSettings, *, batch: int) -> list[tuple[float, float]]:
    """Of each epoch, the rates of the first and the last step."""
    steps = IMAGES // 256 * 256 // batch
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(()))], lr=settings.peak_lr(batch)[0])
    schedule = LearningRate(optimizer, settings, steps_per_epoch=steps)
    rates = []
    for epoch in range(settings.epochs):
        found = []
        for step in (0, steps - 1):
            schedule.set(epoch * steps + step)
            found.append(optimizer.param_groups[0]["lr"])
        rates.append((found[0], found[1]))
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="a name; by default all with the published schedule")
    parser.add_argument("--batch", type=int, default=1024, help="over all processes")
    parser.add_argument("--print", action="store_true", help="every epoch's rates")
    args = parser.parse_args()
    console = Console(width=110)
    table = Table("recipe", "epochs", "batch", "peak", "last", "largest relative difference")
    worst = 0.0
    for name, path in recipes().items():
        settings = read_settings(TrainSettings, yaml.safe_load(path.read_text()), source=Path(path))
        if settings.schedule != "epoch_cosine" or args.recipe not in (None, name):
            continue
        base = 1e-3 * args.batch / 512
        rates = set_by_training(settings, batch=args.batch)
        expected = [formula(epoch, base=base, epochs=settings.epochs) for epoch in range(settings.epochs)]
        difference = max(abs(lr / e - 1) for pair, e in zip(rates, expected, strict=True) for lr in pair)
        worst = max(worst, difference)
        table.add_row(
            name, str(settings.epochs), str(args.batch), f"{base:g}", f"{rates[-1][1]:.6e}", f"{difference:.1e}"
        )
        if args.print:
            for epoch, (pair, e) in enumerate(zip(rates, expected, strict=True)):
                console.print(f"{name} epoch {epoch}: set {pair[0]!r} to {pair[1]!r}, formula {e!r}", highlight=False)
    console.print(table)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
