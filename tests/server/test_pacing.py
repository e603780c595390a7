"""Who comes with others begins in their order; who comes alone at once."""

import asyncio
import time

from server.pacing import Pacing


def test_the_first_are_done_with_their_steps_before_the_last_begin():
    heard: list[tuple[str, int]] = []

    async def request(pacing: Pacing, number: int) -> None:
        await pacing.begin()
        heard.append(("begun", number))
        for _ in range(3):
            await asyncio.sleep(0)
        heard.append(("planned", number))

    async def all_of_them() -> None:
        pacing = Pacing()
        await asyncio.gather(*(request(pacing, number) for number in range(1000)))

    asyncio.run(all_of_them())
    for step in ("begun", "planned"):
        assert [number for what, number in heard if what == step] == list(range(1000))
    assert heard.index(("planned", 0)) < heard.index(("begun", 999))


def test_after_a_long_turn_as_many_begin_as_would_have_in_short_ones():
    async def run() -> int:
        pacing = Pacing()
        waiting = [asyncio.create_task(pacing.begin()) for _ in range(200)]
        turns = 0
        while not all(task.done() for task in waiting):
            turns += 1
            until = time.monotonic() + 0.02  # others' work, in every turn
            while time.monotonic() < until:
                pass
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(run()) < 40  # 20 ms a turn are 20 requests of 1 ms


def test_one_alone_does_not_wait_and_one_who_leaves_holds_up_nobody():
    async def run() -> list[object]:
        pacing = Pacing()
        waiting = [asyncio.create_task(pacing.begin()) for _ in range(4)]
        await asyncio.sleep(0)
        assert waiting[0].done()
        waiting[1].cancel()
        async with asyncio.timeout(10):
            return await asyncio.gather(*waiting, return_exceptions=True)

    _, left, *others = asyncio.run(run())
    assert isinstance(left, asyncio.CancelledError)
    assert others == [None, None]
