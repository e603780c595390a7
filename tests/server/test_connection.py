"""A block ends with its caller, and with nobody else."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from server.bounded_http import CALLER, Caller
from server.routes.connection import WhileThere


def awaited(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def runs() -> None:
        asyncio.run(test())

    del runs.__wrapped__  # or pytest sees the coroutine
    return runs


def there(caller: Caller) -> WhileThere:
    async def receive() -> dict[str, str]:
        raise AssertionError("the connection tells; nobody need read from it")

    return WhileThere({"type": "http", "extensions": {CALLER: caller}}, receive)


@awaited
async def test_going_ends_the_block_where_it_waits():
    caller, reached = Caller(), []
    asyncio.get_running_loop().call_soon(caller.leave)

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            reached.append("cleaned up")

    with pytest.raises(ClientDisconnect):
        async with there(caller):
            await waits()
    assert reached == ["cleaned up"]


@awaited
async def test_who_has_gone_is_waited_for_by_nobody():
    caller = Caller()
    caller.leave()
    with pytest.raises(ClientDisconnect):
        async with there(caller):
            await asyncio.sleep(60)


@awaited
async def test_a_block_that_is_through_is_not_ended_later():
    caller = Caller()
    block = there(caller)
    async with block:
        caller.leave()  # cancels in the loop's next turn, and there is none
    block.end()
    await asyncio.sleep(0.01)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@awaited
async def test_a_time_that_is_over_within_is_no_going():
    with pytest.raises(TimeoutError):
        async with there(Caller()), asyncio.timeout(0.001):
            await asyncio.sleep(60)


@awaited
async def test_a_cancellation_from_outside_stays_one():
    async def waits() -> None:
        async with there(Caller()):
            await asyncio.sleep(60)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@awaited
async def test_without_such_a_connection_the_message_tells():
    messages = [{"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, str]:
        await asyncio.sleep(0)
        return messages.pop(0)

    with pytest.raises(ClientDisconnect):
        async with WhileThere({"type": "http"}, receive):
            await asyncio.sleep(60)


@awaited
async def test_nothing_is_kept_of_blocks_that_ended():
    caller = Caller()
    async with there(caller):
        pass
    told: list[str] = []
    forget = caller.listen(lambda: told.append("first"))
    caller.listen(lambda: told.append("second"))
    forget()
    caller.leave()
    assert told == ["second"]
