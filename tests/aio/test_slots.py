"""A bound that tasks of several event loops share."""

from __future__ import annotations

import asyncio
import threading

import pytest

from genprm.aio import Slots


class Inside:
    """Counts who is inside at the same time, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.total = 0

    async def stay(self, slots: Slots) -> None:
        async with slots:
            with self._lock:
                self._now += 1
                self.total += 1
                self.most = max(self.most, self._now)
            await asyncio.sleep(0.001)
            with self._lock:
                self._now -= 1


def test_no_more_than_so_many_are_inside_over_all_loops() -> None:
    slots, inside = Slots(3), Inside()

    async def many() -> None:
        await asyncio.gather(*(inside.stay(slots) for _ in range(40)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert inside.total == 200
    assert inside.most == 3


async def test_they_are_admitted_in_the_order_in_which_they_came() -> None:
    slots, order = Slots(1), []

    async def one(number: int) -> None:
        async with slots:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20))


@pytest.mark.parametrize("ticks", range(6))
async def test_a_task_that_is_cancelled_while_it_waits_or_is_admitted_keeps_nothing(ticks: int) -> None:
    slots = Slots(1)
    leave = asyncio.Event()

    async def hold() -> None:
        async with slots:
            await leave.wait()

    async def wait() -> None:
        async with slots:
            await asyncio.sleep(0)

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    leave.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(holder, *waiting, return_exceptions=True)
    assert not any(task.cancelled() for task in (holder, *waiting[1:]))
    async with asyncio.timeout(10):
        await wait()


def test_a_loop_that_ended_while_its_task_waited_holds_up_nobody() -> None:
    slots = Slots(1)

    async def wait() -> None:
        async with slots:
            pass

    async def left_behind() -> None:
        async with slots:
            loop = asyncio.new_event_loop()

            def other() -> None:
                task = loop.create_task(wait())
                loop.call_soon(loop.stop)
                loop.run_forever()
                task.cancel()
                loop.close()

            thread = threading.Thread(target=other)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
        async with asyncio.timeout(10), slots:
            pass

    asyncio.run(left_behind())
