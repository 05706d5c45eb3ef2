"""Dynamic batching: what waits when the network is free goes through it together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Optional, TypeVar

from recnext.errors import RecNextError

from .limits import unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """A result, the items computed together, the seconds waited, and those that the batch took."""

    result: Result
    batch: int
    queued: float
    computed: float


@dataclass(eq=False)  # removed by identity
class _Waiting:
    item: Any
    future: "asyncio.Future[Answer[Any]]"
    since: float


class Batcher(Generic[Item, Result]):
    """Runs items in batches of 1, 2, 4, ... `largest`, in one thread.

    Backends compile a form a batch size, so only powers of two are used: of seven waiting images four run, and then
    two, and then one, unless others have come. While a batch runs, the next one gathers; an idle network waits
    `patience` seconds for company.

    Args:
        run: from a list of items to as many results; called in the thread.
        largest: batch, a power of two.
        patience: seconds.
        queue: items waiting, at most.
        on_batch: told size and seconds of each batch.

    Raises:
        RecNextError: `largest` is not a power of two.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        *,
        largest: int = 8,
        patience: float = 0.002,
        queue: int = 128,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        if largest < 1 or largest & (largest - 1):
            raise RecNextError(f"the largest batch is {largest}: expected a power of two")
        self.run = run
        self.largest = largest
        self.patience = patience
        self.queue = queue
        self.on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._task: Optional[asyncio.Task[None]] = None
        self._closed = False
        self._since: Optional[float] = None  # the batch in progress began

    def __len__(self) -> int:
        """Items waiting."""
        return len(self._waiting)

    @property
    def running(self) -> bool:
        """Whether items are taken."""
        return not self._closed and self._task is not None and not self._task.done()

    @property
    def seconds_busy(self) -> float:
        """Seconds that the batch in progress has taken; 0 between batches."""
        return 0.0 if self._since is None else time.perf_counter() - self._since

    def start(self) -> None:
        """Begins; call it in the event loop."""
        self._task = asyncio.create_task(self._work())

    async def submit(self, item: Item) -> Answer[Result]:
        """Puts an item into a batch and waits for its result. Cancelling takes it out again.

        Raises:
            RefusedError: 503, the queue is full or closed.
            Exception: what `run` raised for its batch.
        """
        if not self.running:
            raise unavailable("the server is stopping", kind="stopping")
        if len(self._waiting) >= self.queue:
            raise unavailable(f"{self.queue} images are waiting already", kind="queue")
        entry = _Waiting(item, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._waiting.append(entry)
        self._arrived.set()
        if len(self._waiting) >= self.largest:
            self._full.set()
        try:
            return await entry.future
        except asyncio.CancelledError:
            with suppress(ValueError):  # it runs already
                self._waiting.remove(entry)
            raise

    async def in_thread(self, function: Callable[[], Value]) -> Value:
        """Calls a function in the network's thread, between batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def close(self) -> None:
        """Takes no more items, finishes those that wait, ends the thread."""
        self._closed = True
        self._arrived.set()
        self._full.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._waiting:
                if self._closed:
                    return
                self._arrived.clear()
                continue
            if len(self._waiting) < self.largest and self.patience > 0 and not self._closed:
                self._full.clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self.patience)
            batch = self._take()
            if batch:
                await self._finish(batch)

    def _take(self) -> list[_Waiting]:
        """The first items, as many as the greatest power of two among those that wait."""
        count = min(len(self._waiting), self.largest)
        size = 1 << (count.bit_length() - 1) if count else 0
        return [self._waiting.popleft() for _ in range(size)]

    async def _finish(self, batch: list[_Waiting]) -> None:
        started = self._since = time.perf_counter()
        items = [entry.item for entry in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self.run, items)
        except Exception as error:  # each request reports it; the next batch may do
            for entry in batch:
                if not entry.future.done():
                    entry.future.set_exception(error)
            return
        finally:
            self._since = None
        seconds = time.perf_counter() - started
        self.on_batch(len(batch), seconds)
        for entry, result in zip(batch, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(Answer(result, len(batch), started - entry.since, seconds))
