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
        self._replacing: set[asyncio.Future[None]] = set()
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
        worker = await self._idle.get()
        worker.since = time.monotonic()
        timer = asyncio.get_running_loop().call_later(self.seconds, worker.kill)
        try:
            result, error = await asyncio.get_running_loop().run_in_executor(self._threads, worker.ask, arguments)
        except BaseException as failure:
            took = time.monotonic() - worker.since
            worker.kill()
            self._workers.discard(worker)
            replacing = asyncio.ensure_future(self._add())
            self._replacing.add(replacing)
            replacing.add_done_callback(self._replacing.discard)
            if not isinstance(failure, (EOFError, OSError)):
                raise
            reason = f"took longer than {self.seconds:g} s" if took >= self.seconds else "ended its process"
            raise unprocessable(f"the image cannot be decoded: it {reason}", kind="undecodable") from None
        finally:
            timer.cancel()
        worker.since = None
        self._idle.put_nowait(worker)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Ends the processes, whatever they do; it may be called from any thread."""
        self._closed = True
        for worker in list(self._workers):
            worker.kill()
        self._threads.shutdown(wait=False)

    async def _add(self) -> None:
        if self._closed:
            return
        worker = await asyncio.get_running_loop().run_in_executor(None, _Worker, self._context, self.decode)
        if self._closed:
            worker.kill()
            return
        self._workers.add(worker)
        self._idle.put_nowait(worker)


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, context: BaseContext, decode: Callable[..., Any]) -> None:
        self.since: Optional[float] = None
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_decode_for_ever, args=(other, decode), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        other.close()
        self._pipe.recv()  # it is there

    def ask(self, arguments: tuple[Any, ...]) -> tuple[Any, Optional[Exception]]:
        """A result, or what was raised; waits as long as it takes, or until the process is ended."""
        self._pipe.send(arguments)
        return self._pipe.recv()

    def kill(self) -> None:
        if self._process.is_alive():  # else its number may be another's
            self._process.kill()


def _decode_for_ever(pipe: Connection, decode: Callable[..., Any]) -> None:
    """Answers until the other side is gone; signals to the group are the server's to obey."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    pipe.send(None)
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((decode(*arguments), None))
        except RefusedError as error:
            pipe.send((None, error))
        except Exception:  # of ours: the server logs it
            pipe.send((None, RuntimeError(traceback.format_exc())))
