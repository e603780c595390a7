"""What the engine tells the metrics of its probes."""

import asyncio

from server.echo_decoder import EchoDecoder
from server.engine import Engine


def test_an_engine_tells_what_its_probe_took():
    told = []

    async def slow():
        return EchoDecoder(first_seconds=0.05)

    async def live():
        engine = Engine(slow, observe=told.append)
        engine.start()
        await engine.up.wait()
        await engine.close()

    asyncio.run(live())
    assert len(told) == 1
    assert told[0] >= 0.05
