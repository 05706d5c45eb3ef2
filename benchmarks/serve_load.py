"""Load on `recnext serve`, over loopback: requests per second, latencies, batch sizes, by number of clients.

    python benchmarks/serve_load.py                 # recnext_m1, under three minutes; writes benchmarks/results/serve.*
    python benchmarks/serve_load.py --quick         # a small network and a second a row, to see that it works

The server runs in a process of its own and shares the processors with the clients, which are one process without
threads. Each client sends its next request when the last one is answered (a closed loop), over one kept connection.
Images are JPEGs of 500x375 pixels of smooth noise. With the largest batch 1 against 8 it shows what batching gives.
"""

import argparse
import asyncio
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

import recnext
from recnext.study.speed.machine import describe_machine, one_line

RESULTS = Path(__file__).parent / "results"
CLIENTS = (1, 4, 16, 32)
LARGEST_BATCHES = (1, 8)


@dataclass(frozen=True)
class Row:
    """One load."""

    largest_batch: int
    clients: int
    requests: int
    failed: int
    requests_per_second: float
    p50: float  # milliseconds
    p95: float
    p99: float
    mean_batch: float
    batches: dict[int, int]  # images by batch size


def photos(count: int = 8) -> list[bytes]:
    """JPEGs with structure at several scales, so that they decode like photographs."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        pixels = np.zeros((375, 500, 3), dtype=np.float32)
        for side in (4, 16, 64):
            small = Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))
            pixels += np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32) / 3
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


@contextmanager
def server(weights: Path, largest_batch: int, threads: int, *more: str) -> Iterator[tuple[str, int, int]]:
    """(what it says of itself, its port, the number of its process) while it runs."""
    command = [sys.executable, "-m", "recnext", "serve", "--checkpoint", str(weights), "--port", "0"]
    command += ["--max-batch", str(largest_batch), "--threads", str(threads), "--log-level", "warning", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"(.*) on http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise SystemExit(f"the server did not start: {' '.join(command)}")
        try:
            yield found[1], int(found[2]), process.pid
        finally:
            process.terminate()


class Connection:
    """A kept connection of one client."""

    async def open(self, port: int) -> "Connection":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def classify(self, image: bytes) -> tuple[int, Any, float]:
        """Status, answer, and the seconds until it was there."""
        head = (
            f"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\ncontent-length: {len(image)}"
        )
        started = time.perf_counter()
        self.writer.write(head.encode() + b"\r\n\r\n" + image)
        headers = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(re.search(r"content-length: (\d+)", headers)[1])  # type: ignore[index]
        answer = json.loads(await self.reader.readexactly(length))
        return int(headers.split(" ", 2)[1]), answer, time.perf_counter() - started


async def client(port: int, images: list[bytes], end: float, seconds: list[float], batches: Counter[int]) -> int:
    """Asks until the time is up; gives the number of requests that were not answered with 200."""
    connection = await Connection().open(port)
    failed, number = 0, 0
    while time.perf_counter() < end:
        status, answer, took = await connection.classify(images[number % len(images)])
        number += 1
        seconds.append(took)
        if status == 200:
            batches[answer["batch"]] += 1
        else:
            failed += 1
    connection.writer.close()
    return failed


async def load(port: int, images: list[bytes], *, clients: int, seconds: float, largest_batch: int) -> Row:
    """Clients for a second of warm-up and then on the clock."""
    for duration in (min(1.0, seconds), seconds):
        times: list[float] = []
        batches: Counter[int] = Counter()
        started = time.perf_counter()
        asked = [client(port, images[turn:] + images[:turn], started + duration, times, batches) for turn in
                 (number % len(images) for number in range(clients))]  # fmt: skip
        failed = sum(await asyncio.gather(*asked))
        took = time.perf_counter() - started
    p50, p95, p99 = np.percentile(times, (50, 95, 99)) * 1e3
    answered = sum(batches.values())
    # a batch of n is named by n answers
    mean = answered / max(sum(count / size for size, count in batches.items()), 1e-9)
    return Row(
        largest_batch=largest_batch,
        clients=clients,
        requests=len(times),
        failed=failed,
        requests_per_second=answered / took,
        p50=p50,
        p95=p95,
        p99=p99,
        mean_batch=mean,
        batches=dict(sorted(batches.items())),
    )


def measure(model: str, *, seconds: float, clients: tuple[int, ...]) -> dict[str, Any]:
    """All rows, and what they were measured on."""
    rows: list[Row] = []
    images = photos()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        weights = recnext.save(timm.create_model(model), Path(folder) / "network.safetensors")
        for largest_batch in LARGEST_BATCHES:
            with server(weights, largest_batch, threads) as (served, port, _):
                for count in clients:
                    print(f"\rup to {largest_batch} together, {count} clients ", end="", file=sys.stderr, flush=True)
                    rows.append(
                        asyncio.run(load(port, images, clients=count, seconds=seconds, largest_batch=largest_batch))
                    )
    print(file=sys.stderr)
    return {
        "machine": describe_machine(torch.device("cpu"), threads),
        "served": served,
        "image_bytes": sum(map(len, images)) // len(images),
        "seconds": seconds,
        "rows": [asdict(row) for row in rows],
    }


def as_markdown(result: dict[str, Any]) -> str:
    """The table of docs/serving.md."""
    lines = [
        f"{result['served']}; JPEGs of 500x375, {result['image_bytes'] / 1024:.0f} KiB; {result['seconds']:g} s a row; "
        "clients on the same processors.",
        "",
        f"{one_line(result['machine'])}",
        "",
        "| largest batch | clients | requests/s | p50 ms | p95 ms | p99 ms | mean batch | not answered |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['largest_batch']} | {row['clients']} | {row['requests_per_second']:.0f} | {row['p50']:.1f} | "
            f"{row['p95']:.1f} | {row['p99']:.1f} | {row['mean_batch']:.2f} | {row['failed']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="recnext_m1")
    parser.add_argument("--seconds", type=float, default=8.0, help="a row")
    parser.add_argument("--quick", action="store_true", help="a small network, a second a row, nothing written")
    options = parser.parse_args()
    if options.quick:
        print(as_markdown(measure("test_recnext_m", seconds=1, clients=(1, 8))))
        return
    result = measure(options.model, seconds=options.seconds, clients=CLIENTS)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "serve.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "serve.md").write_text(as_markdown(result), encoding="utf-8")
    print(as_markdown(result))


if __name__ == "__main__":
    main()
