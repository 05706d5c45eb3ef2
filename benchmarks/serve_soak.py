"""Many requests to `recnext serve` at once: does everyone get the answer for the own image, and does memory stay level?

    python benchmarks/serve_soak.py                            # 10,000 requests of 64 clients
    python benchmarks/serve_soak.py --requests 500 --clients 8

Every image has a size of its own, so that an answer names its image, and is asked for alone first; a tenth of the
requests are damaged images, which are refused. Writes benchmarks/results/serve_soak.json.
"""

import argparse
import asyncio
import io
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

import recnext
from recnext.study.speed.machine import describe_machine

sys.path.insert(0, str(Path(__file__).parent))
from serve_load import RESULTS, Connection, server

TENTHS = 10
TOLERANCE = 0.01  # of a probability, relative: batches of another size are computed in another order

GAIN = 1000.0


def pictures(count: int) -> list[bytes]:
    """JPEGs of noise in patches, no two of one size."""
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        file = io.BytesIO()
        patches = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        patches.resize((200 + number, 300 - number), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def opinionated(model: str) -> torch.nn.Module:
    """A network of random weights whose answers to two images differ: its last layer is enlarged."""
    network = timm.create_model(model)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear) and module.out_features == network.num_classes:
                module.weight *= GAIN
    return network


def memory_mib(pid: int) -> float:
    """Memory of a process and of those that it has started, pages that they share counted once each (Linux)."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    family, total = {pid}, 0.0
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return total


async def soak(port: int, pid: int, *, requests: int, clients: int) -> dict[str, Any]:
    """Sends all requests; counts wrong and failed answers, and measures times and memory."""
    images = pictures(100)
    first = await Connection().open(port)
    expected = [(await first.classify(image))[1] for image in images]
    seconds: list[float] = []
    found = {"wrong": 0, "failed": 0, "refused": 0}
    memory = [memory_mib(pid)]
    numbers = iter(range(requests))

    async def ask() -> None:
        connection = await Connection().open(port)
        for number in numbers:
            if number % (requests // TENTHS) == requests // TENTHS - 1:
                memory.append(memory_mib(pid))
            image, right = images[number % len(images)], expected[number % len(images)]
            damaged = number % 10 == 9
            status, answer, took = await connection.classify(image[: len(image) // 2] if damaged else image)
            seconds.append(took)
            if damaged:
                found["refused" if status == 422 else "failed"] += 1
            elif status != 200:
                found["failed"] += 1
            else:
                found["wrong"] += not agree(answer, right)
        connection.writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    took = time.perf_counter() - started
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return {
        "requests": requests,
        "clients": clients,
        **found,
        "requests_per_second": requests / took,
        "p50": p50,
        "p99": p99,
        "memory_mib": memory,
    }


def agree(answer: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether an answer is of this image: its size, and the probabilities of its classes."""
    scores, expected = ({score["index"]: score["probability"] for score in one["classes"]} for one in (answer, right))
    return (
        answer["image"] == right["image"]
        and all(
            math.isclose(probability, expected[index], rel_tol=TOLERANCE, abs_tol=1e-7)
            for index, probability in scores.items()
            if index in expected
        )
        and len(scores.keys() & expected.keys()) >= len(scores) - 1
    )  # the last one may be another of the same probability


def measure(model: str, *, requests: int, clients: int) -> dict[str, Any]:
    """Starts a server, soaks it, and says on what it was measured."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        weights = recnext.save(opinionated(model), Path(folder) / "network.safetensors")
        with server(weights, 8, threads, "--precision", "fp32") as (served, port, pid):
            found = asyncio.run(soak(port, pid, requests=requests, clients=clients))
    load = f"average load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors at the end"
    return {"machine": describe_machine(torch.device("cpu"), threads), "served": served, "load": load, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="recnext_m1")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    result = measure(options.model, requests=options.requests, clients=options.clients)
    (RESULTS / "serve_soak.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
