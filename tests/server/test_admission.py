"""The bounded queue: order, weights, drain."""

import asyncio

import pytest

from server.admission import Admission
from server.errors import DeadlineExceeded, Draining, QueueFull


def admission(running: int = 2, queue: int = 4, seconds: float = 5.0) -> Admission:
    return Admission(running=running, queue=queue, deadline_seconds=seconds)


def test_no_more_run_at_once_than_fit_and_first_come_is_first_served():
    async def scenario():
        door, order, most = admission(), [], 0

        async def one(name):
            nonlocal most
            ticket = await door.enter()
            most = max(most, door.running)
            order.append(name)
            await asyncio.sleep(0.01)
            ticket.leave()

        await asyncio.gather(*(one(name) for name in range(6)))
        return order, most, door.running

    assert asyncio.run(scenario()) == ([0, 1, 2, 3, 4, 5], 2, 0)


def test_choices_count_and_a_giant_enters_alone():
    async def scenario():
        door = admission(running=4)
        small = await door.enter(weight=1)
        giant = asyncio.create_task(door.enter(weight=9))
        await asyncio.sleep(0.01)
        assert not giant.done()
        small.leave()
        ticket = await giant
        assert door.running == 9
        ticket.leave()
        ticket.leave()  # once is enough, twice is harmless
        return door.running

    assert asyncio.run(scenario()) == 0


def test_over_the_bound_is_refused_at_once():
    async def scenario():
        door = admission(running=1, queue=1)
        await door.enter()
        waiting = asyncio.create_task(door.enter())
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as refused:
            await door.enter()
        waiting.cancel()
        assert refused.value.retry_after_seconds is not None

    asyncio.run(scenario())


def test_waiting_past_the_deadline_gives_up_and_frees_the_queue():
    async def scenario():
        door = admission(running=1)
        await door.enter()
        with pytest.raises(DeadlineExceeded):
            await door.enter(deadline_seconds=0.02)
        return door.waiting

    assert asyncio.run(scenario()) == 0


def test_a_waiter_who_leaves_does_not_block_those_behind():
    async def scenario():
        door = admission(running=1)
        first = await door.enter()
        gone, behind = asyncio.create_task(door.enter()), asyncio.create_task(door.enter())
        await asyncio.sleep(0)
        first.leave()  # promises the place to the first waiter …
        gone.cancel()  # … who goes in the same moment
        ticket = await asyncio.wait_for(behind, 1)
        ticket.leave()
        return door.running, door.waiting

    assert asyncio.run(scenario()) == (0, 0)


def test_draining_lets_those_inside_finish_and_turns_others_away():
    async def scenario():
        door = admission(running=1)
        inside = await door.enter()
        waiting = asyncio.create_task(door.enter())
        await asyncio.sleep(0)
        draining = asyncio.create_task(door.drain(2))
        await asyncio.sleep(0.01)
        with pytest.raises(Draining):
            await door.enter()
        with pytest.raises(Draining):
            await waiting
        assert not draining.done()
        inside.leave()
        return await draining

    assert asyncio.run(scenario()) is True


def test_draining_gives_up_when_time_is_up():
    async def scenario():
        door = admission()
        await door.enter()
        return await door.drain(0.02)

    assert asyncio.run(scenario()) is False
