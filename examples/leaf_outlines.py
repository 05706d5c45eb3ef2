"""RecConv1d on sequences: six kinds of leaves from their outlines, against plain depthwise convolutions.

Data: OSULeaf (A. Grandhi, Oregon State University), 200 outlines to train on and 242 to test, each of 427 points,
as sktime ships them. All mixers have the same number of parameters; only how far they see differs.

    pip install sktime
    python examples/leaf_outlines.py
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from recnext import RecConv1d

WIDTH, DEPTH, CLASSES = 32, 3, 6


# name -> mixer of c channels and how many samples it sees; 25 c parameters each
MIXERS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "RecConv1d 5, level 3": (lambda c: RecConv1d(c, 5, level=3), 40),
    "depthwise 25": (lambda c: nn.Conv1d(c, c, 25, padding=12, groups=c, bias=False), 25),
}


class Block(nn.Module):
    """Token mixer, norm, channel mixer, residual: a block of RecNeXt in one dimension."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.token_mixer = mixer
        self.norm = nn.BatchNorm1d(WIDTH)
        self.channel_mixer = nn.Sequential(nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.GELU(), nn.Conv1d(2 * WIDTH, WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.channel_mixer(self.norm(self.token_mixer(x)))


def network(mixer: Callable[[int], nn.Module]) -> nn.Module:
    """(N, 1, T) to (N, classes)."""
    blocks = [Block(mixer(WIDTH)) for _ in range(DEPTH)]
    stem = nn.Conv1d(1, WIDTH, 3, stride=3, padding=1)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES))


def load(part: str) -> tuple[Tensor, Tensor]:
    """Outlines (N, 1, 427) and classes (N,) of "TRAIN" or "TEST"."""
    package = find_spec("sktime")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("this example reads data that sktime ships: pip install sktime")
    file = Path(package.submodule_search_locations[0]) / "datasets/data/OSULeaf" / f"OSULeaf_{part}.ts"
    lines = file.read_text().lower().split("@data")[1].split()
    series, labels = zip(*(line.split(":") for line in lines), strict=True)
    x = torch.from_numpy(np.stack([np.array(s.split(","), dtype=np.float32) for s in series]))
    return x[:, None], torch.tensor([int(label) - 1 for label in labels])


def accuracy(mixer: Callable[[int], nn.Module], seed: int, epochs: int) -> float:
    """Test accuracy after training; an outline may start anywhere, so training turns each one at random."""
    torch.manual_seed(seed)
    (x, y), (x_test, y_test) = load("TRAIN"), load("TEST")
    model = network(mixer)
    steps = epochs * 4
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for step in range(steps):
        if step % 4 == 0:
            order = torch.randperm(len(x)).chunk(4)
        batch = torch.roll(x[order[step % 4]], int(torch.randint(x.shape[-1], ())), -1)
        loss = F.cross_entropy(model(batch), y[order[step % 4]], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float((model.eval()(x_test).argmax(1) == y_test).float().mean())


def main(seeds: int = 3, epochs: int = 40) -> dict[str, list[float]]:
    """Prints the table; returns the accuracies of each mixer."""
    results = {
        name: [accuracy(mixer, seed, epochs) for seed in track(range(seeds), f"{name:20}", transient=True)]
        for name, (mixer, _) in MIXERS.items()
    }
    table = Table(title=f"OSULeaf, {epochs} epochs, {seeds} seeds")
    for column in ("mixer", "sees", "parameters of a mixer", "of the network", "test accuracy %", "std"):
        table.add_column(column, justify="left" if column == "mixer" else "right")
    for name, (mixer, sees) in MIXERS.items():
        own, whole = (sum(p.numel() for p in m.parameters()) for m in (mixer(WIDTH), network(mixer)))
        values = [100 * value for value in results[name]]
        spread = stdev(values) if seeds > 1 else 0.0
        table.add_row(name, str(sees), str(own), str(whole), f"{mean(values):.1f}", f"{spread:.1f}")
    Console().print(table)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    main(**vars(parser.parse_args()))
