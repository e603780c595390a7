"""What the null engine costs without a server: its pieces drained in a bare loop."""

import asyncio
import time

from server.coalescing import Coalescing
from server.echo_decoder import EchoDecoder
from server.loops import loop_factory
from server.records import Limits


async def drained(
    reply: str, streams: int, tokens: int, interval_seconds: float, *, resting: bool = False
) -> float:
    """Processor µs a token of `streams` echoes at once, in a thread with the server's kind of loop.

    `resting`: taken not as the tokens come, but after the rests that the server has between two events.
    """
    coalescing = Coalescing(lambda: streams) if resting else None
    decoder = EchoDecoder(reply=reply, interval_seconds=interval_seconds, coalescing=coalescing)
    limits = Limits(max_tokens=tokens, temperature=0.0, ignore_eos=True)

    async def drain(number: int) -> None:
        async for _ in decoder.decode((1,), limits, request_id=str(number)):
            pass

    async def all_of_them() -> float:
        began = time.thread_time()
        async with asyncio.TaskGroup() as group:
            for number in range(streams):
                group.create_task(drain(number))
        return (time.thread_time() - began) / (streams * tokens) * 1e6

    def run() -> float:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(all_of_them())

    return await asyncio.to_thread(run)
