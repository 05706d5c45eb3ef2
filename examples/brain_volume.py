"""RecConv3d on volumes: grey and white matter from a noisy brain scan, against plain depthwise convolutions.

Data: the ICBM 152 average brain (symmetric, 2009a; McConnell Brain Imaging Centre), as nilearn ships it: a T1 scan and
probabilities of grey and white matter. Training sees the back of the head, the test is the front. The scan gets
noise of 0.4 of its spread, so a voxel alone does not tell and context does.

    pip install nilearn
    python examples/brain_volume.py
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

from recnext import RecConv3d

WIDTH, DEPTH, CLASSES = 12, 2, 3  # neither, grey, white
SIZE, NOISE = 20, 0.4

# name -> mixer of c channels and how many voxels it sees along an axis
MIXERS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "RecConv3d 3, level 2": (lambda c: RecConv3d(c, 3, level=2), 12),
    "depthwise 5": (lambda c: nn.Conv3d(c, c, 5, padding=2, groups=c, bias=False), 5),
    "depthwise 3": (lambda c: nn.Conv3d(c, c, 3, padding=1, groups=c, bias=False), 3),
}


class Block(nn.Module):
    """Token mixer, norm, channel mixer, residual: a block of RecNeXt in three dimensions."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.token_mixer = mixer
        self.norm = nn.BatchNorm3d(WIDTH)
        self.channel_mixer = nn.Sequential(nn.Conv3d(WIDTH, 2 * WIDTH, 1), nn.GELU(), nn.Conv3d(2 * WIDTH, WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.channel_mixer(self.norm(self.token_mixer(x)))


def network(mixer: Callable[[int], nn.Module]) -> nn.Module:
    """(N, 1, D, H, W) to (N, classes, D, H, W)."""
    blocks = [Block(mixer(WIDTH)) for _ in range(DEPTH)]
    return nn.Sequential(nn.Conv3d(1, WIDTH, 1), *blocks, nn.Conv3d(WIDTH, CLASSES, 1))


def load() -> tuple[Tensor, Tensor]:
    """The scan, of unit spread, and the class of every voxel, both (D, H, W) in voxels of 3 mm."""
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("this example reads data that nilearn ships: pip install nilearn")
    import nibabel

    folder = Path(package.submodule_search_locations[0]) / "datasets/data"
    volumes = []
    for kind in ("t1", "gm", "wm"):
        image = nibabel.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
        volume = torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32))
        volumes.append(F.avg_pool3d(volume[None, None], 3)[0, 0])
    scan, grey, white = volumes
    labels = torch.stack([torch.full_like(grey, 0.5), grey / grey.max(), white / white.max()]).argmax(0)
    inside = (scan > 0).nonzero()
    low, high = inside.amin(0), inside.amax(0) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (scan[box] - scan[box].mean()) / scan[box].std(), labels[box]


def dice(mixer: Callable[[int], nn.Module], seed: int, steps: int) -> float:
    """Mean Dice overlap of grey and white matter in the front of the head, after training on the back."""
    torch.manual_seed(seed)
    scan, labels = load()
    border = int(0.6 * scan.shape[1])
    model = network(mixer)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(steps):
        limits = (scan.shape[0], border, scan.shape[2])
        corners = [[int(torch.randint(limit - SIZE + 1, ())) for limit in limits] for _ in range(2)]
        boxes = [tuple(slice(c, c + SIZE) for c in corner) for corner in corners]
        x = torch.stack([scan[box] for box in boxes])[:, None]
        loss = F.cross_entropy(model(x + NOISE * torch.randn_like(x)), torch.stack([labels[box] for box in boxes]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    front = scan[None, None, :, border:]
    noise = torch.randn(front.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, truth = model.eval()(front + NOISE * noise).argmax(1)[0], labels[:, border:]
    scores = []
    for kind in (1, 2):
        a, b = found == kind, truth == kind
        scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return mean(scores)


def main(seeds: int = 3, steps: int = 80) -> dict[str, list[float]]:
    """Prints the table; returns the Dice overlaps of each mixer."""
    results = {
        name: [dice(mixer, seed, steps) for seed in track(range(seeds), f"{name:20}", transient=True)]
        for name, (mixer, _) in MIXERS.items()
    }
    table = Table(title=f"ICBM 152, {steps} steps, {seeds} seeds")
    for column in ("mixer", "sees", "parameters of a mixer", "of the network", "test Dice %", "std"):
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
    parser.add_argument("--steps", type=int, default=80)
    main(**vars(parser.parse_args()))
