"""SIGTERM under load: whoever was let in gets his whole answer, everybody else is told, no row is lost."""

import asyncio
import random
import signal
import time

import httpx
import pytest
from sqlalchemy import select

from bench.client import chat
from bench.open_loop import NO_ANSWER, ask, closing
from indexer.database import open_database
from server.schema import exposures, plans, replies
from tests.server.test_serving import serving

SETTINGS = {
    "FEWSHOT_ENGINE_ECHO_REPLY": "Nothing is lost. ",
    "FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": "0.03",
    "FEWSHOT_SERVER_RUNNING": "8",
    "FEWSHOT_SERVER_QUEUE": "8",
}
CLIENTS = 24  # more than run and wait together


async def load(port: int, child, chance: random.Random):
    """Everybody asks again and again; in the middle of it the signal comes. (when, what each heard)."""
    heard = []
    over = asyncio.Event()

    async def client(number: int) -> None:
        while not over.is_set():
            one = await ask(port, closing(chat("echo", f"Question {number}?", 20)))
            heard.append(one)
            if one.status != 200:
                await asyncio.sleep(0.02)

    async def stop() -> float:
        await asyncio.sleep(chance.uniform(0.8, 2.0))
        child.send_signal(signal.SIGTERM)
        told = time.monotonic()
        await asyncio.to_thread(child.wait, 40)
        over.set()
        return told

    told, *_ = await asyncio.gather(stop(), *(client(number) for number in range(CLIENTS)))
    return told, heard


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_who_was_let_in_is_answered_whole_and_the_rest_is_told(tmp_path, seed):
    with serving(tmp_path, **SETTINGS) as (child, url):
        port = httpx.URL(url).port
        told, heard = asyncio.run(load(port, child, random.Random(seed)))
        assert child.wait() == 0
    assert {one.status for one in heard} <= {200, 429, 503, NO_ANSWER}  # at the end nobody listens any more
    before = [one for one in heard if one.ended < told]
    assert {one.status for one in before} <= {200, 429}
    answered = [one for one in heard if one.status == 200]
    assert all(one.whole for one in answered)
    assert any(one.ended > told for one in answered)  # some were inside when the signal came
    assert not any(one.status == 200 for one in heard if one.asked > told + 5)
    engine = open_database(tmp_path / "journal.db")
    with engine.connect() as connection:
        met, planned, ended = (
            sorted(connection.execute(select(table.c.turn)).scalars())
            for table in (exposures, plans, replies)
        )
        outcomes = set(connection.execute(select(replies.c.outcome)).scalars())
    engine.dispose()
    assert met == planned == ended
    assert len(ended) == len(answered)
    assert outcomes == {"stop"}
