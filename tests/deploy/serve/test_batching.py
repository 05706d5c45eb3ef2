import asyncio
import threading

import pytest

from recnext.deploy.serve.batching import Batcher
from recnext.deploy.serve.limits import RefusedError
from recnext.errors import RecNextError


class Doubler:
    """Doubles numbers; notes the batches; waits while it is held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.free.wait(10)
        if -1 in items:
            raise ArithmeticError("minus one")
        return [2 * item for item in items]


async def running(doubler: Doubler, **options) -> Batcher[int, int]:
    batcher: Batcher[int, int] = Batcher(doubler, **options)
    batcher.start()
    return batcher


async def held(doubler: Doubler, batcher: Batcher[int, int]) -> "asyncio.Task":
    """Occupies the thread with a batch of the number 0."""
    doubler.free.clear()
    task = asyncio.create_task(batcher.submit(0))
    while not doubler.batches:
        await asyncio.sleep(0.001)
    return task


def test_what_gathers_during_a_batch_runs_in_powers_of_two():
    doubler = Doubler()

    async def main() -> None:
        batcher = await running(doubler, largest=4, patience=0)
        first = await held(doubler, batcher)
        others = [asyncio.create_task(batcher.submit(number)) for number in range(1, 8)]
        await asyncio.sleep(0.01)
        assert len(batcher) == 7
        doubler.free.set()
        answers = await asyncio.gather(first, *others)
        assert [answer.result for answer in answers] == [2 * number for number in range(8)]
        assert [answer.batch for answer in answers] == [1, 4, 4, 4, 4, 2, 2, 1]
        assert all(answer.queued >= 0 and answer.computed >= 0 for answer in answers)
        await batcher.close()

    asyncio.run(main())
    assert doubler.batches == [[0], [1, 2, 3, 4], [5, 6], [7]]


def test_an_idle_network_waits_for_company_but_not_when_the_batch_is_full():
    doubler = Doubler()

    async def main() -> None:
        batcher = await running(doubler, largest=2, patience=5)
        await asyncio.wait_for(asyncio.gather(batcher.submit(1), batcher.submit(2)), 2)
        await batcher.close()

    asyncio.run(main())
    assert doubler.batches == [[1, 2]]


def test_full_queue_is_refused_and_the_others_are_answered():
    doubler = Doubler()

    async def main() -> None:
        batcher = await running(doubler, queue=2, patience=0)
        waiting = [await held(doubler, batcher)]
        waiting += [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(RefusedError, match="2 images are waiting already") as refused:
            await batcher.submit(3)
        assert refused.value.status == 503
        assert "retry-after" in refused.value.headers
        doubler.free.set()
        assert [answer.result for answer in await asyncio.gather(*waiting)] == [0, 2, 4]
        await batcher.close()

    asyncio.run(main())


def test_cancelled_items_are_not_computed():
    doubler = Doubler()

    async def main() -> None:
        batcher = await running(doubler, patience=0)
        first = await held(doubler, batcher)
        gone = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        assert len(batcher) == 0
        doubler.free.set()
        assert (await first).result == 0
        assert (await batcher.submit(2)).result == 4
        await batcher.close()

    asyncio.run(main())
    assert doubler.batches == [[0], [2]]


def test_a_failed_batch_fails_alone():
    doubler = Doubler()

    async def main() -> None:
        batcher = await running(doubler)
        with pytest.raises(ArithmeticError, match="minus one"):
            await batcher.submit(-1)
        assert (await batcher.submit(4)).result == 8
        await batcher.close()

    asyncio.run(main())


def test_closing_answers_what_waits_and_takes_no_more():
    doubler = Doubler()

    async def main() -> None:
        batcher = await running(doubler, patience=60)
        first = await held_by_patience(batcher)
        closing = asyncio.create_task(batcher.close())
        assert (await asyncio.wait_for(first, 2)).result == 2
        await closing
        assert not batcher.running
        with pytest.raises(RefusedError, match="stopping"):
            await batcher.submit(1)

    asyncio.run(main())


async def held_by_patience(batcher: Batcher[int, int]) -> "asyncio.Task":
    task = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0.01)
    return task


@pytest.mark.parametrize("largest", [0, 3, 12])
def test_largest_batch_is_a_power_of_two(largest):
    with pytest.raises(RecNextError, match=f"{largest}: expected a power of two"):
        Batcher(Doubler(), largest=largest)
