"""Processes that decode, and end."""

import asyncio
import multiprocessing
import operator
import os
import time
from contextlib import asynccontextmanager

import pytest

from recnext.deploy.serve.decoders import Decoders
from recnext.deploy.serve.limits import RefusedError


@asynccontextmanager
async def running(decode, *, count: int = 1, seconds: float = 20):
    decoders = Decoders(decode, count=count, seconds=seconds)
    await decoders.start()
    try:
        yield decoders
    finally:
        decoders.close()


def test_what_takes_too_long_is_ended_and_the_next_is_served():
    async def main() -> None:
        async with running(time.sleep, seconds=0.3) as decoders:
            started = time.monotonic()
            with pytest.raises(RefusedError, match=r"cannot be decoded: it took longer than 0\.3 s") as refused:
                await decoders.run(60)
            assert refused.value.status == 422
            assert await decoders.run(0) is None
            assert time.monotonic() - started < 10

    asyncio.run(main())


def test_a_process_that_dies_is_replaced():
    async def main() -> None:
        async with running(os._exit) as decoders:
            for _ in range(2):
                with pytest.raises(RefusedError, match="it ended its process"):
                    await decoders.run(1)

    asyncio.run(main())


def test_a_failure_of_ours_is_told_with_its_traceback():
    async def main() -> None:
        async with running(operator.truediv) as decoders:
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                await decoders.run(1, 0)
            assert await decoders.run(1, 2) == 0.5

    asyncio.run(main())


def test_cancelling_frees_the_process():
    """Also of what waits for one; nobody gets an answer that was another's."""

    async def main() -> None:
        async with running(time.sleep) as decoders:
            tasks = [asyncio.create_task(decoders.run(60)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            assert await asyncio.wait_for(decoders.run(0), 10) is None

    asyncio.run(main())


def test_stuck_when_every_process_is_busy_for_seconds():
    async def main() -> None:
        async with running(time.sleep, count=2) as decoders:
            tasks = [asyncio.create_task(decoders.run(60))]
            await asyncio.sleep(2.2)
            assert not decoders.stuck
            tasks.append(asyncio.create_task(decoders.run(60)))
            await asyncio.sleep(2.2)
            assert decoders.stuck
            for task in tasks:
                task.cancel()
            assert await asyncio.wait_for(decoders.run(0), 10) is None
            assert not decoders.stuck

    asyncio.run(main())


def test_a_process_that_dies_while_it_waits_is_not_the_next_images_fault():
    async def main() -> None:
        others = multiprocessing.active_children()
        async with running(time.sleep) as decoders:
            (process,) = [process for process in multiprocessing.active_children() if process not in others]
            process.kill()
            process.join()
            assert await decoders.run(0) is None

    asyncio.run(main())
