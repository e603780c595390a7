"""What must stay inside: the salts of tenants' prefix caches, keys, the secret."""

import asyncio
import logging
import re
from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest

from indexer.database import open_database
from server.echo_decoder import EchoDecoder
from server.keys import SCOPES, Keys
from server.records import Limits
from server.vllm_decoder import VllmDecoder
from tests.server.test_mcp import ACCEPT, META, MODERN

HELLO = [{"role": "user", "content": "the same prompt"}]
SALT = re.compile(r"[0-9a-f]{64}")


class Listening(EchoDecoder):
    """An echo that remembers what it was held to."""

    def __init__(self):
        super().__init__()
        self.salts = []

    def decode(self, prompt, limits, *, request_id, adapter=None, show=None):
        if not request_id.startswith("probe"):
            self.salts.append(limits.cache_salt)
        return super().decode(prompt, limits, request_id=request_id)


def post(running, key, path, **body):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(f"{running.url}/v1{path}", json={"model": "echo", **body}, headers=headers)


def test_each_tenant_has_a_salt_of_its_own_that_no_body_shows(serve):
    decoder = Listening()

    async def open_decoder():
        return decoder

    with serve(with_keys=True, open_decoder=open_decoder) as running:
        while not running.parts.engine.up.is_set():
            pass
        said = []
        makers = [("a", ["infer", "audit"]), ("a", ["infer"]), ("b", ["infer"])]
        for tenant, scopes in makers:
            key = running.keys.create(tenant=tenant, scopes=scopes)
            chat = post(running, key, "/chat/completions", messages=HELLO)
            stored = post(running, key, "/responses", input="the same prompt")
            said += [chat, stored, post(running, key, "/completions", prompt="the same prompt")]
            said.append(
                httpx.get(
                    f"{running.url}/v1/responses/{stored.json()['id']}",
                    headers={"authorization": f"Bearer {key}"},
                )
            )
            row = running.journalled(chat.json()["id"])
            assert not any(salt in str(row) for salt in decoder.salts)
        assert all(answer.status_code == 200 for answer in said)
        first, second, other = decoder.salts[0:3], decoder.salts[3:6], decoder.salts[6:9]
        assert len({*first, *second}) == len({*other}) == 1  # a tenant's keys share one, on every route
        assert len({*decoder.salts}) == 2
        for salt in decoder.salts:
            assert SALT.fullmatch(salt)
            assert not any(salt in answer.text or salt in str(answer.headers) for answer in said)


class Saying(Listening):
    """Says something else each time, so that a replay asks for the odds of both."""

    async def decode(self, prompt, limits, *, request_id, adapter=None, show=None):
        word = str(len(self.salts) % 10)
        async for piece in super().decode(prompt, limits, request_id=request_id, adapter=adapter):
            yield replace(piece, text=word, tokens=(ord(word),)) if piece.tokens else piece

    async def first_tokens(self, prompt, candidates, *, cache_salt="", adapter=None):
        self.salts.append(cache_salt)
        return await super().first_tokens(prompt, candidates, cache_salt=cache_salt, adapter=adapter)


def test_no_road_leads_to_the_engine_without_a_salt(serve):
    """An unsalted prompt would share its prefix cache with every other unsalted one, whosoever it is."""
    decoder = Saying()

    async def open_decoder():
        return decoder

    with serve(with_keys=True, open_decoder=open_decoder) as running:
        while not running.parts.engine.up.is_set():
            pass
        salts = {}
        for tenant in ("a", "b"):
            key = running.keys.create(tenant=tenant, scopes=SCOPES)
            decoder.salts.clear()
            counts = []

            def done(answer, counts=counts):
                assert answer.status_code == 200, answer.text
                counts.append(len(decoder.salts))
                return answer.json()

            turn = done(post(running, key, "/chat/completions", messages=HELLO, temperature=0))["id"]
            done(post(running, key, "/completions", prompt="the same prompt"))
            done(post(running, key, "/responses", input="the same prompt"))
            done(post(running, key, "/classify", template="question-type", input=["How far is it?"]))
            headers = {"authorization": f"Bearer {key}"}
            replayed = done(httpx.post(f"{running.url}/v1/replay/{turn}", headers=headers))
            assert replayed["first_difference"] is not None
            called = {"name": "ask", "arguments": {"question": "the same prompt"}, "_meta": META}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
            done(
                httpx.post(
                    f"{running.url}/mcp",
                    json=body,
                    headers={**headers, **MODERN, **ACCEPT, "mcp-name": "ask"},
                )
            )
            assert counts == sorted(set(counts))  # each of them asked the engine
            assert counts[4] - counts[3] == 2  # the replay twice: for the answer, and for the odds
            assert all(decoder.salts)
            salts[tenant] = set(decoder.salts)
        assert not salts["a"] & salts["b"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": HELLO}),
        ("/completions", {"prompt": "a"}),
        ("/responses", {"input": "a"}),
        ("/classify", {"template": "question-type", "input": "a"}),
    ],
)
def test_no_caller_sets_a_salt(serve, path, body):
    with serve() as running:
        for where in (
            {"cache_salt": "mine"},
            {"fewshot": {"cache_salt": "mine"}},
            {"metadata": {}, "cache_salt": ""},
        ):
            refused = post(running, None, path, **body, **where)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"].endswith(("cache_salt", "fewshot"))


class Recording:
    """As much of vLLM's engine as a prompt passes through."""

    errored = False

    def __init__(self):
        self.inputs = []

    def get_tokenizer(self):
        class Nothing:
            all_special_ids = ()

        return Nothing()

    async def generate(self, inputs, params, request_id):
        self.inputs.append(inputs)
        return
        yield


@pytest.mark.slow  # imports vLLM
def test_the_salt_reaches_the_engine_with_the_prompt():
    pytest.importorskip("vllm")
    engine = Recording()
    decoder = VllmDecoder(engine, EchoDecoder().profile)

    async def decode(salt):
        limits = Limits(max_tokens=1, cache_salt=salt)
        async with aclosing(decoder.decode((1, 2), limits, request_id="r")) as pieces:
            async for _ in pieces:
                pass

    for salt in ("a" * 64, "b" * 64):
        asyncio.run(decode(salt))
    assert [inputs["cache_salt"] for inputs in engine.inputs] == ["a" * 64, "b" * 64]


def test_no_key_is_in_any_log_error_or_file(serve, tmp_path, caplog):
    """500 requests that fail, each with a real key, a revoked one, or something like one."""
    caplog.set_level(logging.DEBUG)
    with serve(with_keys=True) as running:
        good, gone, poor = (
            running.keys.create(tenant="t", scopes=scopes) for scopes in (SCOPES, SCOPES, ["feedback"])
        )
        running.keys.revoke(gone.split("_")[1])
        canaries = [key.split("_", 2)[2] for key in (good, gone, poor)] + ["canary-secret-0123456789"]
        bodies = []
        with httpx.Client(base_url=running.url) as client:
            for number in range(500):
                key = (good, gone, poor, f"fsk_00000000_{canaries[3]}", canaries[3])[number % 5]
                method, path = (
                    ("POST", "/v1/chat/completions"),
                    ("GET", "/v1/files/file-nothing"),
                    ("POST", "/v1/vector_stores/vs_nothing/search"),
                    ("GET", "/v1/nowhere"),
                    ("DELETE", "/v1/models/echo"),
                    ("POST", "/v1/responses"),
                    ("GET", "/openapi.json"),
                )[number % 7]
                answer = client.request(
                    method, path, headers={"authorization": f"Bearer {key}"}, json={"messages": 5}
                )
                bodies.append(answer.text + str(answer.headers))
            metrics = client.get("/metrics", headers={"authorization": f"Bearer {good}"})
            assert metrics.status_code == 200
            bodies.append(metrics.text)
        running.parts.journal.wait()
        files = [file.read_bytes() for file in tmp_path.glob("journal.db*")]
        assert files
        for canary in canaries:
            assert not any(canary in body for body in bodies)
            assert canary not in caplog.text
            assert not any(canary.encode() in content for content in files)
        assert "pepper" not in "".join(bodies)


def test_a_key_s_record_does_not_show_it(tmp_path):
    book = Keys(open_database(tmp_path / "journal.db"), pepper=b"p")
    made = book.create(tenant="t", scopes=["infer"])
    assert made.split("_", 2)[2] not in repr(book.check(made)) + repr(book.list())
