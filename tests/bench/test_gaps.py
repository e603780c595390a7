"""Which gap between tokens belongs to what ran beside it."""

import asyncio
import time

from bench.gaps import Gaps


class Talker:
    """Says a token every 10 ms, but holds its breath for 80 while it is `held`."""

    def __init__(self):
        self.held = False

    async def stream(self, model, prompt, tokens):
        times = []
        for _ in range(8):
            await asyncio.sleep(0.08 if self.held else 0.01)
            times.append(time.perf_counter())
        return times


def test_a_gap_belongs_to_every_phase_that_it_overlaps():
    async def run():
        talker = Talker()
        async with Gaps.of(talker, ["one"]) as gaps:
            for _ in range(2):
                with gaps.phase("quiet"):
                    await asyncio.sleep(0.1)
                with gaps.phase("held"), gaps.phase("inside"):
                    talker.held = True
                    await asyncio.sleep(0.3)
                talker.held = False
                await asyncio.sleep(0.2)
        return gaps

    gaps = asyncio.run(run())
    assert gaps.longest("held") == gaps.longest("inside") >= 0.08
    assert gaps.all("quiet")
    assert gaps.all("never") == []
