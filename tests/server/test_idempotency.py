"""Requests that come twice: by Idempotency-Key, and by the client's own count of its retries."""

import asyncio
import json
import shutil
import threading
import time

import httpx
import httpx2  # what the openai client of today speaks through
import openai
import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from indexer.attempts import LEASE_SECONDS
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.embedders import Embedders
from indexer.hash_embedder import HashEmbedder
from indexer.schema import attempts
from server.app import create_app
from server.corpora import Corpora
from server.keys import LOCAL
from server.metrics import Metrics
from server.routes.durable import of_json, once
from server.wire.operations import DURABLE
from tests.server.adapters.making import write_lora

PASSING = {  # POSTs that leave nothing which a second one would make twice
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/classify",
    "/v1/embeddings",
    "/v1/replay/{response_id}",
    "/v1/responses",
    "/v1/responses/{response_id}/cancel",
    "/v1/responses/{other}",
    "/v1/vector_stores/{store_id}/search",
    "/mcp",
}


@pytest.fixture
def folder(tmp_path, data):
    return shutil.copytree(data, tmp_path / "data")


def call(running, path, body=None, *, text=None, key="any", **headers):
    """`headers`: idempotency_key=…, x_stainless_retry_count=…"""
    sent = {"authorization": f"Bearer {key}"}
    sent |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
    if text is not None:
        files = {"file": ("a.txt", text.encode())}
        data = {"purpose": "assistants"}
        return httpx.post(f"{running.url}{path}", data=data, files=files, headers=sent, timeout=30)
    return httpx.post(f"{running.url}{path}", json=body, headers=sent, timeout=30)


def listed(running, path):
    return [item["id"] for item in httpx.get(f"{running.url}{path}").json()["data"]]


def test_every_durable_post_gives_the_same_answer_for_the_same_key_and_refuses_another_body(serve, folder):
    with serve(folder=folder, reply="x") as running:
        file = call(running, "/v1/files", text="one").json()["id"]
        other = call(running, "/v1/files", text="two").json()["id"]
        store = call(running, "/v1/vector_stores", {"name": "s"}).json()["id"]
        answer = running.client().chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "Hi"}]
        )
        at = f"/v1/vector_stores/{store}"
        batch = call(running, f"{at}/file_batches", {"file_ids": [other]}).json()["id"]
        given = {"id": answer.id, "metric": "thumb", "value": True}
        bodies = {
            "/v1/vector_stores": ({"name": "t"}, {"name": "u"}),
            at: ({"name": "v"}, {"name": "w"}),
            f"{at}/files": ({"file_id": file}, {"file_id": other}),
            f"{at}/files/{file}": ({"attributes": {"a": 1}}, {"attributes": {"a": 2}}),
            f"{at}/file_batches": ({"file_ids": [file, other]}, {"file_ids": [file]}),
            "/v1/feedback": (given, {**given, "value": False}),
        }
        for number, (path, (body, another)) in enumerate(bodies.items()):
            first = call(running, path, body, idempotency_key=number)
            spelt = {name: body[name] for name in reversed(body)}
            again = call(running, path, spelt, idempotency_key=number)
            assert (first.status_code, again.content) == (200, first.content), (path, first.text)
            assert "x-fewshot-deduplicated" not in first.headers
            assert again.headers["x-fewshot-deduplicated"] == "true"
            mismatch = call(running, path, another, idempotency_key=number)
            assert (mismatch.status_code, mismatch.json()["error"]["code"]) == (422, "idempotency_mismatch")
        upload = call(running, "/v1/files", text="three", idempotency_key="f")
        assert call(running, "/v1/files", text="three", idempotency_key="f").json() == upload.json()
        assert call(running, "/v1/files", text="four", idempotency_key="f").status_code == 422
        assert call(running, "/v1/vector_stores", {"name": "t"}, idempotency_key="f").status_code == 422
        cancelled = [
            call(running, f"{at}/file_batches/{batch}/cancel", idempotency_key="c") for _ in range(2)
        ]
        assert cancelled[0].content == cancelled[1].content
        assert len(listed(running, "/v1/files")) == 3


def test_a_decision_about_adapters_that_is_sent_twice_is_one_step(serve, folder):
    with serve(folder=folder) as running:
        write_lora(folder / "inbox" / "polite-1")
        taken = {"name": "polite", "inbox": "polite-1"}
        made = [call(running, "/v1/adapters", taken, idempotency_key="take") for _ in range(2)]
        assert made[0].status_code == 200, made[0].text
        assert made[0].json() == made[1].json()
        path = f"/v1/adapters/{made[0].json()['id']}/promote"
        moved = [call(running, path, {"alias": "support"}, x_stainless_retry_count=count) for count in (0, 1)]
        assert moved[0].json() == moved[1].json()
        loaded = [
            call(running, "/v1/unload_lora_adapter", {"lora_name": "support"}, idempotency_key="out")
            for _ in range(2)
        ]
        assert loaded[0].text == loaded[1].text
        assert loaded[1].headers["content-type"] == loaded[0].headers["content-type"]
        steps = httpx.get(f"{running.url}/v1/adapters/steps").json()["data"]
        assert [step["action"] for step in steps].count("promote") == 1
        broken = httpx.post(f"{running.url}{path}", content=b"{", headers={"idempotency-key": "b"})
        mended = call(running, path, {"alias": "support"}, idempotency_key="b")
        assert (broken.status_code, mended.status_code) == (400, 200)


def test_an_attempt_says_that_it_runs_for_as_long_as_it_does(folder):
    begun = []

    async def slow(_):
        begun.append(time.time())
        await asyncio.sleep(2.5)
        return Response("done", media_type="text/plain")

    corpora = Corpora(
        Catalogue(folder), Embedders(None, HashEmbedder()), HashEmbedder(), NoBacklog(), threads=2
    )
    request = Request(
        {
            "type": "http",
            "method": "POST",
            "path": "/x",
            "query_string": b"",
            "server": ("localhost", 80),
            "scheme": "http",
            "headers": [(b"x-stainless-retry-count", b"1")],
            "state": {"corpora": corpora},
        }
    )

    async def both():
        first = asyncio.create_task(once(request, LOCAL, of_json(b"{}"), slow, lease_seconds=1.0))
        await asyncio.sleep(0.3)
        return await asyncio.gather(first, once(request, LOCAL, of_json(b"{}"), slow, lease_seconds=1.0))

    answers = asyncio.run(both())
    corpora.close()
    assert len(begun) == 1
    assert [answer.body for answer in answers] == [b"done", b"done"]


class NoBacklog:
    """Nothing is read in the background."""

    def start(self):
        return None

    def wake(self):
        return None

    def close(self):
        return None


def test_every_post_is_either_durable_or_leaves_nothing():
    app = create_app(None, metrics=Metrics())
    posts = {route.path for route in app.routes if isinstance(route, APIRoute) and "POST" in route.methods}
    assert posts - PASSING == DURABLE


def test_a_key_is_one_callers_own_and_is_free_again_after_a_refusal(serve, folder):
    with serve(folder=folder, with_keys=True) as running:
        one, two = (running.keys.create(tenant="t", scopes=["files"]) for _ in range(2))
        made = [
            call(running, "/v1/vector_stores", {"name": "s"}, key=key, idempotency_key="k").json()["id"]
            for key in (one, one, two)
        ]
        assert made[0] == made[1] != made[2]
        absent = {"name": "s", "file_ids": ["file-nothing"]}
        refused = call(running, "/v1/vector_stores", absent, key=one, idempotency_key="r")
        mended = call(running, "/v1/vector_stores", {"name": "s"}, key=one, idempotency_key="r")
        assert (refused.status_code, mended.status_code) == (404, 200)


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "é"])
def test_a_key_that_is_none_is_refused(serve, folder, name):
    with serve(folder=folder) as running:
        headers = {"idempotency-key": name.encode()}
        refused = httpx.post(f"{running.url}/v1/vector_stores", json={}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_a_clients_retry_returns_the_earlier_attempts_object(serve, folder):
    with serve(folder=folder) as running:

        def upload(text, count):
            return call(running, "/v1/files", text=text, x_stainless_retry_count=count)

        first, fresh = upload("same", 0), upload("same", 0)
        assert first.json()["id"] != fresh.json()["id"]  # the same content twice may be meant so
        retried = upload("same", 1)
        assert retried.json()["id"] == fresh.json()["id"]
        assert retried.headers["x-fewshot-deduplicated"] == "true"
        assert upload("same", 2).json()["id"] == fresh.json()["id"]
        lost = upload("never arrived before", 1)
        assert "x-fewshot-deduplicated" not in lost.headers
        assert len(listed(running, "/v1/files")) == 3


def unfinished(folder, seconds_ago=0.0):
    """Make the newest attempt one that never came to its end."""
    catalogue = Catalogue(folder)
    with writing(catalogue.engine) as connection:
        newest = connection.execute(sa.select(sa.func.max(attempts.c.id))).scalar()
        change = sa.update(attempts).where(attempts.c.id == newest)
        connection.execute(
            change.values(done_at=None, result=None, begun_at=attempts.c.begun_at - seconds_ago)
        )
    catalogue.close()
    return newest


def test_while_an_attempt_runs_a_key_meets_409_and_a_retry_waits(serve, folder):
    with serve(folder=folder) as running:
        made = call(running, "/v1/vector_stores", {"name": "s"}, idempotency_key="k")
        unfinished(folder)
        busy = call(running, "/v1/vector_stores", {"name": "s"}, idempotency_key="k")
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "idempotency_in_progress")
        assert busy.headers["retry-after"] == "1"
        assert "x-should-retry" not in busy.headers
        call(running, "/v1/vector_stores", {"name": "u"}, x_stainless_retry_count=0)
        running_one = unfinished(folder)
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(
                call(running, "/v1/vector_stores", {"name": "u"}, x_stainless_retry_count=1)
            )
        )
        waiting.start()
        time.sleep(0.5)
        assert not answers
        catalogue = Catalogue(folder)
        with writing(catalogue.engine) as connection:
            told = json.dumps([made.text, {}])
            change = sa.update(attempts).where(attempts.c.id == running_one)
            connection.execute(change.values(done_at=time.time(), result=told))
        catalogue.close()
        waiting.join(10)
        assert answers[0].json() == made.json()


@pytest.mark.parametrize("kind", ["files", "vector_stores", "file_batches"])
def test_what_a_server_made_before_it_died_is_not_made_again(serve, folder, kind):
    with serve(folder=folder) as running:
        file = call(running, "/v1/files", text="one").json()["id"]
        store = call(running, "/v1/vector_stores", {"name": "s"}).json()["id"]
        path, sent = {
            "files": ("/v1/files", {"text": "x"}),
            "vector_stores": ("/v1/vector_stores", {"body": {"name": "t"}}),
            "file_batches": (f"/v1/vector_stores/{store}/file_batches", {"body": {"file_ids": [file]}}),
        }[kind]
        made = call(running, path, **sent, idempotency_key="k").json()["id"]
        before = listed(running, "/v1/files"), listed(running, "/v1/vector_stores")
        attempt = unfinished(folder, LEASE_SECONDS + 1)
        assert made.endswith(attempt)
        again = call(running, path, **sent, idempotency_key="k")
        assert (again.status_code, again.json()["id"]) == (200, made)
        assert (listed(running, "/v1/files"), listed(running, "/v1/vector_stores")) == before


def test_the_openai_client_that_lost_an_answer_makes_one_file(serve, folder):
    with serve(folder=folder) as running:
        sent = []

        class Lossy(httpx2.BaseTransport):
            """A network that loses the first answer to an upload."""

            inner = httpx2.HTTPTransport()

            def handle_request(self, request):
                answer = self.inner.handle_request(request)
                sent.append(request.headers["x-stainless-retry-count"])
                if len(sent) == 1:
                    answer.read()
                    answer.close()
                    raise httpx2.ReadError("lost")
                return answer

            def close(self):
                self.inner.close()

        with serve_client(running, Lossy()) as client:
            file = client.files.create(file=("a.txt", b"hello"), purpose="assistants")
        assert sent == ["0", "1"]
        assert listed(running, "/v1/files") == [file.id]


def serve_client(running, transport):
    http = openai.DefaultHttpxClient(transport=transport)
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=2, http_client=http)
