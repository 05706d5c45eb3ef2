"""Runs in processes of their own, which can be killed; a clean server starts them, as importing PyTorch again would
take most of the time."""

import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

import torch

from recnext.engine.run import train
from recnext.errors import RecNextError
from recnext.tasks.classification.job import ClassificationJob

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([f"recnext.tasks.{task}.job" for task in ("classification", "detection")])


def start(settings: Any, *, data: Any, job: Any = None, ranks: int = 1) -> list[multiprocessing.Process]:
    """A run in processes that know each other as torchrun's do.

    Their exit codes are 128 + the signal that asked them to stop, 2 for a user's mistake, or 0.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(ranks):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_PORT": port}
        environment["MASTER_ADDR"] = "127.0.0.1"
        arguments = (job or ClassificationJob(), settings, data, environment if ranks > 1 else {})
        processes.append(_CONTEXT.Process(target=_run, args=arguments))
        processes[-1].start()
    return processes


def _run(job: Any, settings: Any, data: Any, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    try:
        result = train(job, settings, data=data)
    except RecNextError:
        os._exit(2)
    os._exit(128 + result.interrupted if result.interrupted is not None else 0)


def finish(processes: list[multiprocessing.Process], *, timeout: float = 120) -> list[int]:
    """Exit codes."""
    for process in processes:
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"a process did not end in {timeout} s")
    return [process.exitcode for process in processes]


def kill_after_save(processes: list[multiprocessing.Process], state: Path, *, seconds: float) -> bool:
    """kill -9 to all, so many seconds after the state is replaced; False where the run is over before that."""
    last = state.stat().st_mtime_ns if state.exists() else None
    while not state.exists() or state.stat().st_mtime_ns == last:
        if any(process.exitcode is not None for process in processes):
            return False
        time.sleep(0.002)
    time.sleep(seconds)
    for process in processes:
        process.kill()
    finish(processes)
    return True
