"""Several processes as torchrun starts them, without its own start-up."""

import os
import socket
import subprocess
import sys


def run_processes(arguments: list[str], *, count: int = 2, timeout: float = 300) -> list[subprocess.CompletedProcess]:
    """`python -m recnext ARGUMENTS` in `count` processes on gloo, a thread each; their results by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "recnext", *arguments],
            env=os.environ
            | group
            | {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [process.communicate(timeout=timeout) for process in started]
    return [
        subprocess.CompletedProcess(arguments, process.returncode, *output)
        for process, output in zip(started, outputs, strict=True)
    ]
