"""An engine that dies or hangs: who waits is told, it is opened again, and readiness says what is so."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import httpx
import openai
import pytest

from server.echo_decoder import EchoDecoder
from server.engine import LOSSES, Engine
from server.errors import EngineUnavailable, Starting
from tests.server.adapters.making import write_lora

QUICK = {"probe_seconds": 0.05, "proof_seconds": 0.1, "hang_seconds": 0.3, "pause_seconds": 0.05}


class Faulty(EchoDecoder):
    """An echo that dies or hangs when it is told to, for ever."""

    def __init__(self, **echo):
        super().__init__(**echo)
        self.dead = False
        self.hung = False
        self.closed = False

    async def decode(self, prompt, limits, *, request_id, adapter=None, show=None):
        def shown(piece):
            return show is not None and not (self.hung or self.dead) and show(piece)

        async for piece in super().decode(prompt, limits, request_id=request_id, adapter=adapter, show=shown):
            if self.hung:
                await asyncio.Event().wait()
            if self.dead:
                raise EngineUnavailable("the engine has died; it is not answering")
            yield piece

    async def first_tokens(self, prompt, candidates, *, cache_salt="", adapter=None):
        if self.hung:
            await asyncio.Event().wait()
        return await super().first_tokens(prompt, candidates)

    async def close(self):
        self.closed = True


class Factory:
    """Opens decoders; each it made is kept."""

    def __init__(self, broken_after=None, **echo):
        self.made = []
        self._echo = echo
        self._broken_after = broken_after

    async def __call__(self):
        if self._broken_after is not None and len(self.made) >= self._broken_after:
            raise EngineUnavailable("no memory")
        self.made.append(Faulty(**self._echo))
        return self.made[-1]


def in_loop(test):
    """A test that is a coroutine."""

    @wraps(test)
    def run(*arguments, **named):
        asyncio.run(test(*arguments, **named))

    return run


async def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["dead", "hung"])
@in_loop
async def test_a_lost_engine_is_not_ready_is_closed_and_comes_back(fault):
    factory = Factory()
    engine = Engine(factory, **QUICK)
    with pytest.raises(Starting):
        _ = engine.decoder
    engine.start()
    await engine.up.wait()
    first = engine.decoder
    assert engine.state == "ready"
    setattr(first, fault, True)
    await until(lambda: engine.state == "not_ready")
    await until(lambda: engine.losses == 1)
    await until(lambda: engine.state == "ready")
    assert engine.decoder is factory.made[1]
    assert first.closed
    assert engine.failure is None
    await engine.close()
    assert factory.made[1].closed


@in_loop
async def test_between_two_decoders_callers_are_told_that_it_is_unavailable():
    factory = Factory()
    engine = Engine(factory, **{**QUICK, "pause_seconds": 0.5})
    engine.start()
    await engine.up.wait()
    engine.decoder.dead = True
    await until(lambda: engine.losses == 1)
    with pytest.raises(EngineUnavailable, match="started again") as told:
        _ = engine.decoder
    assert told.value.retry_after_seconds
    await engine.close()


@in_loop
async def test_who_waits_for_a_hung_engine_is_told_and_who_does_not_is_left_alone():
    factory = Factory()
    engine = Engine(factory, **QUICK)
    engine.start()
    await engine.up.wait()

    async def waits():
        async with engine.held():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(waits())
    bystander = asyncio.create_task(asyncio.sleep(0.8))
    await asyncio.sleep(0.05)
    engine.decoder.hung = True
    with pytest.raises(EngineUnavailable):
        await waiting
    await bystander
    async with engine.held():
        pass  # nothing is lost now
    with pytest.raises(TimeoutError, match="of its own"):
        async with engine.held():
            raise TimeoutError("of its own")
    await engine.close()


@in_loop
async def test_an_engine_lost_three_times_in_a_row_stays_down():
    factory = Factory(broken_after=1)
    engine = Engine(factory, **QUICK)
    engine.start()
    await engine.up.wait()
    assert not engine.ended.is_set()
    engine.decoder.dead = True
    async with asyncio.timeout(10):
        await engine.ended.wait()
    assert engine.losses == LOSSES
    assert "no memory" in engine.failure
    assert engine.state == "not_ready"
    with pytest.raises(EngineUnavailable, match="log says why"):
        _ = engine.decoder
    await engine.close()


@in_loop
async def test_a_first_start_that_fails_is_not_tried_again():
    engine = Engine(Factory(broken_after=0), **QUICK)
    engine.start()
    await engine.ended.wait()
    assert engine.up.is_set()
    assert engine.losses == 0
    await engine.close()


@in_loop
async def test_tokens_for_others_count_as_proof():
    factory = Factory()
    engine = Engine(factory, **QUICK)
    engine.start()
    await engine.up.wait()
    engine.decoder.hung = True  # a probe would wait: its batch is full
    ended = time.monotonic() + 1.0
    while time.monotonic() < ended:
        engine.proved()
        await asyncio.sleep(0.02)
    assert engine.losses == 0
    assert engine.state == "ready"
    await engine.close()


@pytest.fixture
def faulty(serve):
    """A server over a decoder that can be lost: `with faulty() as (running, factory)`."""
    factory = Factory(reply="one two three four five six seven eight", interval_seconds=0.05)

    with serve(open_decoder=factory, engine_options=QUICK) as running:
        while not running.parts.engine.up.is_set():
            time.sleep(0.01)
        yield running, factory


def ready(running):
    return httpx.get(f"{running.url}/ready").status_code


@pytest.mark.parametrize("fault", ["dead", "hung"])
def test_over_http_every_waiter_gets_a_503_or_a_final_event_and_the_server_recovers(faulty, fault):
    running, factory = faulty
    client = running.client(max_retries=0)
    asked = {"model": "echo", "messages": [{"role": "user", "content": "Count."}], "max_tokens": 60}
    begun = threading.Barrier(3)

    def streamed():
        said = []
        with httpx.stream(
            "POST", f"{running.url}/v1/chat/completions", json={**asked, "stream": True}
        ) as answer:
            for text in answer.iter_lines():
                if not said:
                    begun.wait(20)
                said.append(text)
        return said

    def whole():
        with pytest.raises(openai.InternalServerError) as told:
            client.chat.completions.create(**asked)
        return told.value

    with ThreadPoolExecutor(4) as pool:
        streams = [pool.submit(streamed) for _ in range(2)]
        plain = [pool.submit(whole) for _ in range(2)]
        begun.wait(20)  # a stream that has not begun is answered with a plain 503 instead
        while running.parts.admission.running < 4:
            time.sleep(0.01)
        setattr(factory.made[0], fault, True)
        for answer in streams:
            last = [text for text in answer.result(20) if text.startswith("data: {")][-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_unavailable"
        for answer in plain:
            assert answer.result(20).status_code == 503
            assert answer.result(20).code == "engine_unavailable"
    deadline = time.monotonic() + 10
    while len(factory.made) < 2 or ready(running) != 200:  # until the loss is noticed it says 200
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert client.chat.completions.create(**asked).choices[0].message.content.startswith("one two")
    assert running.parts.admission.running == 0


def test_labels_are_not_waited_for_from_a_hung_engine(faulty):
    running, factory = faulty
    factory.made[0].hung = True
    answer = httpx.post(
        f"{running.url}/v1/classify",
        json={"model": "echo", "input": "A fine film.", "template": "question-type@1"},
        timeout=20,
    )
    assert answer.status_code == 503, answer.text


def test_search_goes_on_while_the_engine_is_away(faulty):
    running, factory = faulty
    factory.made[0].dead = True
    while running.parts.engine.losses == 0:
        time.sleep(0.01)
    found = httpx.post(
        f"{running.url}/v1/vector_stores/facts/search", json={"query": "When does iron melt?"}, timeout=20
    )
    assert found.status_code == 200
    assert found.json()["data"]


def test_an_adapter_is_loaded_into_the_engine_that_takes_over(serve, tmp_path):
    factory = Factory()
    with serve(open_decoder=factory, engine_options=QUICK, folder=tmp_path) as running:
        while not running.parts.engine.up.is_set():
            time.sleep(0.01)
        write_lora(tmp_path / "inbox" / "polite")
        http = httpx.Client(base_url=f"{running.url}/v1", timeout=20)
        reference = http.post("/adapters", json={"name": "polite", "inbox": "polite"}).json()["id"]
        assert http.post(f"/adapters/{reference}/promote", json={"alias": "support"}).status_code == 200
        factory.made[0].dead = True
        while running.parts.engine.losses == 0:
            time.sleep(0.01)
        asked = {"model": "support", "messages": [{"role": "user", "content": "Hello"}]}
        deadline = time.monotonic() + 10
        while (answer := http.post("/chat/completions", json=asked)).status_code != 200:
            assert answer.status_code == 503, answer.text
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert answer.json()["choices"][0]["message"]["content"] == f"[{reference}] Hello"
        http.close()
