"""Every header of the transport, a test each: honoured, only written down, or ignored; and what is sent.

openai-surface §1. Headers with tests of their own elsewhere: Authorization (test_auth_matrix),
Idempotency-Key and x-stainless-retry-count on lasting POSTs (test_idempotency), x-ratelimit-* (test_quotas),
retry-after and x-should-retry (test_errors, test_client).
"""

import asyncio
import re
import time

import httpx
import pytest

from server.embedding_service import EmbeddingService
from server.errors import InvalidValue
from server.settings import SettingsRefused, load_settings
from server.wire.headers import EXPOSED, deadline_of, noted_of, patience_of, retry_count_of
from server.wire.reading import Context
from tests.server.samples import ask

HELLO = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GENERATING = {
    "/v1/chat/completions": HELLO,
    "/v1/completions": {"model": "echo", "prompt": "Hello"},
    "/v1/responses": {"input": "Hello"},
}


def post(running, path="/v1/chat/completions", body=HELLO, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{running.url}{path}", json=body, headers=sent, timeout=20)


@pytest.mark.parametrize("path", GENERATING)
def test_what_tells_a_repeated_generation_is_written_down_and_nothing_more(serve, path):
    with serve(reply="x") as running:
        answers = [
            post(
                running,
                path,
                GENERATING[path],
                idempotency_key="same",
                x_stainless_retry_count=str(count),
                x_client_request_id="mine",
                x_request_id="not this one",
                traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
                tracestate="a=b",
            )
            for count in range(2)
        ]
        ids = [answer.json()["id"] for answer in answers]
        rows = [running.journalled(turn) for turn in ids]
        replay = httpx.get(f"{running.url}/v1/replay/{ids[0]}").json()
    assert ids[0] != ids[1]  # a generation is never answered from memory
    assert [row["exposures.retry_count"] for row in rows] == [0, 1]
    for row in rows:
        assert row["exposures.idempotency_key"] == "same"
        assert row["exposures.client_request_id"] == "mine"
        assert row["exposures.trace"] == TRACE
    assert "mine" not in ids[0] + answers[0].headers["x-request-id"]
    assert replay["request"]["client_request_id"] == "mine"


@pytest.mark.parametrize("told", [{}, {"x-client-request-id": "a b"}, {"x-request-id": "x" * 129}])
def test_an_id_that_is_none_is_not_written_down(told):
    assert noted_of(told) == {}


def test_of_two_ids_the_clients_own_is_written_down():
    assert noted_of({"x-request-id": "b"}) == {"client_request_id": "b"}
    assert noted_of({"x-request-id": "b", "x-client-request-id": "a"}) == {"client_request_id": "a"}


@pytest.mark.parametrize(
    ("said", "trace"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (TRACE, None),
    ],
)
def test_a_trace_is_that_of_a_valid_traceparent(said, trace):
    assert noted_of({"traceparent": said}).get("trace") == trace


@pytest.mark.parametrize(("said", "count"), [("0", 0), ("2", 2), ("-1", None), ("two", None), ("²", None)])
def test_a_retry_count_is_a_whole_number(said, count):
    assert retry_count_of({"x-stainless-retry-count": said}) == count


@pytest.mark.parametrize("said", ["0", "3601", "soon", "nan", "-1", "inf"])
def test_a_deadline_out_of_bounds_is_refused_and_a_read_timeout_of_that_kind_is_none(said):
    with pytest.raises(InvalidValue, match="X-Request-Timeout"):
        deadline_of({"x-request-timeout": said})
    assert patience_of({"x-stainless-read-timeout": said}) is None


@pytest.mark.parametrize(
    ("deadline", "patience", "stream", "seconds"),
    [
        (None, None, False, None),
        (10.0, None, False, 10.0),
        (10.0, 600.0, False, 10.0),
        (None, 5.0, False, 5.0),
        (10.0, 5.0, False, 5.0),
        (10.0, 5.0, True, 10.0),
        (None, 5.0, True, None),
    ],
)
def test_a_read_timeout_bounds_the_deadline_of_what_is_not_streamed(deadline, patience, stream, seconds):
    context = Context(id="chatcmpl-1", created=7, deadline=deadline, patience=patience)
    assert ask(context=context, stream=stream).deadline_seconds == seconds


def test_a_client_whose_patience_ends_frees_the_engine_and_a_stream_goes_on(serve):
    with serve(reply="x" * 40, interval_seconds=0.03) as running:
        began = time.monotonic()
        late = post(running, x_stainless_read_timeout="0.3")
        assert time.monotonic() - began < 1.0
        assert (late.status_code, late.headers["x-should-retry"]) == (504, "false")
        assert running.decoder.running == 0
        whole = post(running, body={**HELLO, "stream": True}, x_stainless_read_timeout="0.3")
        assert whole.text.rstrip().endswith("[DONE]")


class Slow(EmbeddingService):
    async def embed(self, texts, *, as_query):
        await asyncio.sleep(5)
        return await super().embed(texts, as_query=as_query)


def test_embeddings_and_searches_end_in_time_too(serve):
    embed = {"model": "hash", "input": "Hello"}
    with serve(reply="x", embedding=Slow) as running:
        began = time.monotonic()
        late = post(running, "/v1/embeddings", embed, x_request_timeout="0.2")
        assert time.monotonic() - began < 2
        wrong = post(running, "/v1/embeddings", embed, x_request_timeout="soon")
        found = post(running, "/v1/vector_stores/facts/search", {"query": "tea"}, x_request_timeout="10")
        bad = post(running, "/v1/vector_stores/facts/search", {"query": "tea"}, x_request_timeout="0")
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert (wrong.status_code, found.status_code, bad.status_code) == (400, 200, 400)


@pytest.mark.parametrize("accept", ["application/binary", "text/html", "*/*", "nonsense"])
def test_accept_and_what_clients_say_of_themselves_change_nothing(serve, accept):
    about = {"openai_organization": "o", "openai_project": "p", "openai_beta": "b", "user_agent": "u"}
    with serve(reply="x") as running:
        answer = post(running, accept=accept, x_stainless_lang="python", **about)
        missing = httpx.get(f"{running.url}/v1/files/file-nothing", headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/json")


def test_every_answer_has_an_id_of_ours(serve):
    with serve(reply="x") as running:
        answers = [
            post(running),
            post(running, body={**HELLO, "stream": True}),
            post(running, body={"messages": 5}),
            httpx.get(f"{running.url}/v1/nowhere"),
            httpx.delete(f"{running.url}/v1/models"),
            httpx.get(f"{running.url}/health"),
        ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("req_[0-9a-f]{32}", one) for one in ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", GENERATING)
def test_generations_name_what_made_them_streamed_or_not(serve, path):
    with serve(reply="x") as running:
        for stream in (False, True):
            headers = post(running, path, {**GENERATING[path], "stream": stream}).headers
            names = {name.removeprefix("x-fewshot-") for name in headers if name.startswith("x-fewshot-")}
            assert names == {"id", "arm", "template", "adapter", "generation", "prompt", "grounding"}
            assert running.journalled(headers["x-fewshot-id"])["plans.prompt_sha256"].startswith(
                headers["x-fewshot-prompt"]
            )


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_after_the_exposure_names_the_turn_and_one_before_it_does_not(serve, stream):
    missing = {"fewshot": {"vector_store_ids": ["nope"]}, "stream": stream}
    with serve(reply="x") as running:
        exposed = post(running, body={**HELLO, **missing})
        refused = post(running, body={**HELLO, "model": "nope"})
        unread = post(running, body={**HELLO, "temperature": 9})
        turn = exposed.headers["x-fewshot-id"]
        assert running.journalled(turn)["exposures.model"] == "echo"
        judged = post(running, "/v1/feedback", {"id": turn, "metric": "thumb", "value": False})
    assert (exposed.status_code, judged.status_code) == (404, 200)
    assert "x-fewshot-id" not in refused.headers
    assert "x-fewshot-id" not in unread.headers


def test_only_what_is_in_progress_says_when_to_ask_again(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create(name="s")
        file = client.files.create(file=("a.txt", b"Cats sleep."), purpose="assistants")
        at = f"/v1/vector_stores/{store.id}/files"
        first = post(running, at, {"file_id": file.id})
        while (now := httpx.get(f"{running.url}{at}/{file.id}")).json()["status"] == "in_progress":
            assert int(now.headers["openai-poll-after-ms"]) > 0
        assert int(first.headers["openai-poll-after-ms"]) > 0
        assert "openai-poll-after-ms" not in now.headers


def test_no_page_may_call_unless_its_site_is_named(serve):
    site, other = "https://chat.example.org", "https://evil.example"
    ahead = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with serve(reply="x", with_keys=True) as running:
        silent = httpx.options(f"{running.url}/v1/models", headers={"origin": site, **ahead})
    with serve(reply="x", with_keys=True, cors_origins=(site,)) as running:
        key = running.keys.create(tenant="t", scopes=["infer"])
        may = httpx.options(f"{running.url}/v1/models", headers={"origin": site, **ahead})
        may_not = httpx.options(f"{running.url}/v1/models", headers={"origin": other, **ahead})
        answer = post(running, origin=site, authorization=f"Bearer {key}")
        nobody = post(running, origin=site)
    assert silent.status_code == 405
    assert not [name for name in silent.headers if name.startswith("access-control")]
    assert (may.status_code, may.headers["access-control-allow-origin"]) == (200, site)
    assert "authorization" in may.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in may_not.headers
    shown = set(answer.headers["access-control-expose-headers"].split(", "))
    ours = {name for name in answer.headers if name.startswith(("x-fewshot-", "x-request-", "x-ratelimit"))}
    assert ours <= shown == set(EXPOSED)
    assert (nobody.status_code, nobody.headers["access-control-allow-origin"]) == (401, site)


def test_sites_are_named_in_the_file_or_a_variable():
    named = load_settings(environ={"FEWSHOT_SERVER_CORS_ORIGINS": "https://a.example, http://b.example:81"})
    assert named.server.cors_origins == ("https://a.example", "http://b.example:81")
    assert load_settings(environ={}).server.cors_origins is None
    with pytest.raises(SettingsRefused, match="cors_origins"):
        load_settings(environ={"FEWSHOT_SERVER_CORS_ORIGINS": "chat.example.org"})
