"""Decoding in processes that can be ended: an image that takes too long holds one of them, for a bounded time."""

import asyncio
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any, Generic, Optional, TypeVar

import torch

from .limits import RefusedError, unprocessable

Result = TypeVar("Result")

_STUCK = 2.0  # seconds with one image, in every process, after which the server is not ready


def process_context() -> BaseContext:
    """How processes start: out of a server process that has imported everything once, where the system has that.

    The server process begins to import at the first call, so call it before a network is loaded.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "recnext.deploy.serve.decoding", __name__])
    ensure_running()
    return context


class Decoders(Generic[Result]):
    """Processes that decode, each one image at a time; one that takes too long is ended and replaced.

    Args:
        decode: what they do; it, its arguments and its results can be pickled, and `RefusedError` is passed on.
        count: processes.
        seconds: that one image may take.
    """

    def __init__(self, decode: Callable[..., Result], *, count: int, seconds: float) -> None:
        self.decode = decode
        self.count = count
        self.seconds = seconds
        self._context = process_context()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decode")  # they wait for the processes
        self._workers: set[_Worker] = set()
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._starting: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def stuck(self) -> bool:
        """Whether every process has been busy with one image for seconds, or there is none."""
        now = time.monotonic()
        return all(worker.since is not None and now - worker.since > _STUCK for worker in self._workers)

    async def start(self) -> None:
        """Starts the processes and waits until they take images."""
        await asyncio.gather(*(self._add() for _ in range(self.count)))

    async def run(self, *arguments: Any) -> Result:
        """Decodes in the next process that is free. Cancelling ends the process.

        Raises:
            RefusedError: what `decode` raised; 422 it took longer than `seconds`, or ended its process.
        """
        while not (worker := await self._idle.get()).lives():
            self._replace(worker)
        loop = asyncio.get_running_loop()
        worker.since = time.monotonic()
        timer = loop.call_later(self.seconds, worker.kill)
        answered = False
        try:
            result, error = await loop.run_in_executor(self._threads, worker.ask, arguments)
            answered = True
        except (EOFError, OSError):
            late = time.monotonic() - worker.since >= self.seconds
            reason = f"took longer than {self.seconds:g} s" if late else "ended its process"
            raise unprocessable(f"the image cannot be decoded: it {reason}", kind="undecodable") from None
        finally:
            timer.cancel()
            worker.since = None
            if answered and not worker.killed:
                self._idle.put_nowait(worker)
            else:
                self._replace(worker)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Ends the processes, whatever they do; it may be called from any thread."""
        self._closed = True
        for worker in list(self._workers):
            worker.kill()
        self._threads.shutdown(wait=False)

    def _replace(self, worker: "_Worker") -> None:
        worker.kill()
        self._workers.discard(worker)
        starting = asyncio.ensure_future(self._add())
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _add(self) -> None:
        if not self._closed:
            worker = await asyncio.get_running_loop().run_in_executor(None, _Worker, self._context, self.decode)
            self._workers.add(worker)
            self._idle.put_nowait(worker)
        if self._closed:
            self.close()


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, context: BaseContext, decode: Callable[..., Any]) -> None:
        self.since: Optional[float] = None
        self.killed = False
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_decode_for_ever, args=(other, decode), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        other.close()
        self._pipe.recv()  # it is there

    def ask(self, arguments: tuple[Any, ...]) -> tuple[Any, Optional[Exception]]:
        """A result, or what was raised; waits as long as it takes, or until the process is ended."""
        self._pipe.send(arguments)
        return self._pipe.recv()

    def lives(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self.killed = True
        if self.lives():  # else its number may be another's
            self._process.kill()


def _decode_for_ever(pipe: Connection, decode: Callable[..., Any]) -> None:
    """Answers until the other side is gone; signals to the group are the server's to obey."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    answer: Any = None  # to the question whether it is there
    while True:
        pipe.send(answer)
        try:
            answer = decode(*pipe.recv()), None
        except EOFError:
            return
        except RefusedError as error:
            answer = None, error
        except Exception:  # of ours: the server logs it
            answer = None, RuntimeError(traceback.format_exc())
