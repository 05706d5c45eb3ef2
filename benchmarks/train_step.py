"""A training step on the CPU: plain NCHW against channels_last, RecConv that saves only its input, and compiling.

    python benchmarks/train_step.py --models recnext_m1 recnext_t --batch-size 16 --threads 2

A step is what `recnext train` does with a batch once it is loaded: uint8 images normalised, forward, cross entropy with
smoothing, backward, AdamW, in float32 at 224. "plain NCHW" is that step with --no-channels-last and nothing else. The
variants take turns in one run; the table gives medians, and ratios to plain NCHW. --compile adds torch.compile, which
builds for minutes first. Prints the machine, versions, threads, batch, dtype and layout.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import timm
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import recnext
from recnext.data import Batch
from recnext.deploy.optimize.steady import Steady
from recnext.deploy.optimize.trial import timed_turns, timing
from recnext.engine.optimization import make_optimizer
from recnext.study.speed.machine import describe_machine
from recnext.tasks.classification.data import preparation_of
from recnext.tasks.classification.mixing import Mixing
from recnext.tasks.classification.settings import TrainSettings
from recnext.tasks.classification.task import ClassificationTask

VARIANTS = {
    "plain NCHW": {},
    "channels_last": {"channels_last": True},
    "channels_last, recompute": {"channels_last": True, "recompute": True},
    "channels_last, compiled": {"channels_last": True, "compiled": True},
}


class Step:
    """One optimizer step of a fresh network."""

    def __init__(self, name: str, batch: int, size: int, channels_last=False, recompute=None, compiled=False) -> None:
        torch.manual_seed(0)
        settings = TrainSettings(model=name, batch_size=batch, channels_last=channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        options = {} if recompute is None else {"recompute": recompute}
        self.model = timm.create_model(name, **options).to(memory_format=layout).train()
        self.task = ClassificationTask(
            self.model,
            settings,
            class_names=tuple(map(str, range(1000))),
            preparation=preparation_of(self.model, image_size=size),
            mixing=Mixing(settings, num_classes=1000),
        )
        self.images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
        self.labels = torch.arange(batch) % 1000
        self.x = torch.randn(batch, 3, size, size).to(memory_format=layout)
        self.optimizer = make_optimizer(self.model, settings, lr=1e-4)
        self.forward = torch.compile(self.model) if compiled else self.model

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        loss = self.task.loss(self.forward, Batch(self.images, self.labels), device=torch.device("cpu"))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def saved_by_recconv(self) -> int:
        """Bytes that autograd keeps inside the RecConvs, each storage once, weights left out."""
        weights = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        kept: dict[int, int] = {}
        inside = [False]

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if inside[0] and storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        hooks = []
        for module in self.model.modules():
            if isinstance(module, recnext.RecConv2d):
                hooks.append(module.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True)))
                hooks.append(module.register_forward_hook(lambda *_: inside.__setitem__(0, False)))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            output = self.model(self.x)
        for hook in hooks:
            hook.remove()
        del output
        return sum(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["recnext_m1", "recnext_t"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "train_step.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    conditions: dict[str, Any] = {
        "machine": describe_machine(torch.device("cpu"), args.threads),
        "batch": args.batch_size,
        "image_size": args.image_size,
        "dtype": "float32",
    }
    steady = Steady(patience=300)
    console = Console(width=110)
    console.print(conditions)
    table = Table("network", "variant", "step s", "times plain", "images/s", "RecConv saves MB", "of plain")
    rows = []
    for name in args.models:
        left_out = {"channels_last, recompute"} if "_m" not in name else set()  # RecConv is in the M networks
        left_out |= set() if args.compile else {"channels_last, compiled"}
        variants = {v: options for v, options in VARIANTS.items() if v not in left_out}
        steps = {v: Step(name, args.batch_size, args.image_size, **kw) for v, kw in variants.items()}
        times: dict[str, list[float]] = {v: [] for v in steps}
        turns = timed_turns(steps, times, rounds=args.rounds, seconds=1e9, calls=1, steady=steady)
        for _ in track(turns, name, total=args.rounds, transient=True):
            pass
        medians = {v: timing(seconds).median for v, seconds in times.items()}
        conditions["machine"]["steadiness"] = steady.describe()
        saved = {v: step.saved_by_recconv() for v, step in steps.items()}
        base = next(iter(variants))
        for v in variants:
            row = {
                "network": name,
                "variant": v,
                "seconds": medians[v],
                "speedup": medians[base] / medians[v],
                "images_per_second": args.batch_size / medians[v],
                "saved_bytes": saved[v],
                "saved_ratio": saved[v] / saved[base] if saved[base] else None,
            }
            rows.append(row)
            table.add_row(
                name,
                v,
                f"{row['seconds']:.2f}",
                f"{row['speedup']:.2f}",
                f"{row['images_per_second']:.1f}",
                f"{saved[v] / 1e6:.0f}" if saved[base] else "-",
                f"{row['saved_ratio']:.2f}" if saved[base] else "-",
            )
    console.print(table)
    console.print(steady.describe())
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
