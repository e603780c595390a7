"""Completions, embeddings, models and the routes around them."""

import asyncio

import httpx
import numpy as np
import openai
import pytest

from indexer.hash_embedder import HashEmbedder
from server.app import Options
from server.keys import SCOPES

ASK = [{"role": "user", "content": "Hello"}]


def test_completions_are_raw(serve):
    with serve(reply=" world") as running:
        done = running.client().completions.create(model="echo", prompt="hello", max_tokens=16)
    assert done.choices[0].text == " world"
    assert done.usage.prompt_tokens == len("hello")


def test_several_prompts_and_choices_come_prompt_major(serve):
    with serve() as running:
        done = running.client().completions.create(model="echo", prompt=["ab", "xyz"], n=2, max_tokens=9)
    assert [choice.text for choice in done.choices] == ["ab", "ab", "xyz", "xyz"]
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]


def test_echo_with_logprobs_scores_the_prompt(serve):
    with serve() as running:
        done = running.client().completions.create(
            model="echo", prompt="abc", max_tokens=0, echo=True, logprobs=1
        )
    (choice,) = done.choices
    assert choice.text == "abc"
    assert choice.logprobs.tokens == ["a", "b", "c"]
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.text_offset == [0, 1, 2]


def test_a_completion_may_be_grounded(serve):
    with serve(reply="Thirteen [1]") as running:
        done = running.client().completions.create(
            model="echo",
            prompt="How long do cats sleep?",
            extra_body={"fewshot": {"vector_store_ids": ["facts"]}},
        )
    assert done.fewshot["grounding"] == "grounded"


def test_embeddings_are_the_stores_vectors_in_either_format(serve):
    name = HashEmbedder().name
    with serve() as running:
        client = running.client()
        usual = client.embeddings.create(model=name, input=["green tea"])  # the client asks for base64
        floats = client.embeddings.create(model=name, input="green tea", encoding_format="float")
    expected = HashEmbedder().passages(["green tea"])[0]
    assert np.allclose(usual.data[0].embedding, expected, atol=1e-6)
    assert np.allclose(floats.data[0].embedding, expected, atol=1e-6)


def test_an_input_over_the_embedders_window_is_refused_by_its_place(serve):
    long = "word " * 100_000
    with serve() as running, pytest.raises(openai.BadRequestError) as raised:
        running.client().embeddings.create(model=HashEmbedder().name, input=["short", long])
    assert raised.value.param == "input[1]"


def test_models_list_the_base_model_first(serve):
    with serve() as running:
        client = running.client()
        names = [model.id for model in client.models.list()]
        assert names == ["echo", HashEmbedder().name]
        assert client.models.retrieve("echo").id == "echo"
        with pytest.raises(openai.NotFoundError, match="there are echo"):
            client.models.retrieve("gpt-9")


def test_ready_only_when_tokens_come_and_chat_says_starting_until_then(serve):
    hold: list[asyncio.Event] = []

    async def never_yet():
        hold.append(asyncio.Event())
        await hold[0].wait()

    with serve(open_decoder=never_yet) as running:
        assert httpx.get(f"{running.url}/health").status_code == 200
        ready = httpx.get(f"{running.url}/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
        with pytest.raises(openai.InternalServerError, match="starting") as refused:
            running.client().chat.completions.create(model="echo", messages=ASK)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"]


def test_an_engine_that_cannot_start_is_unavailable_not_a_hang(serve):
    async def broken():
        raise RuntimeError("no weights at all")

    with serve(open_decoder=broken) as running:
        asyncio.run(asyncio.sleep(0.05))
        assert httpx.get(f"{running.url}/ready").json() == {"status": "not_ready"}
        with pytest.raises(openai.InternalServerError) as refused:
            running.client().chat.completions.create(model="echo", messages=ASK)
    assert "no weights" not in str(refused.value)


def test_metrics_count_what_was_answered(serve):
    with serve(reply="abc") as running:
        running.client().chat.completions.create(model="echo", messages=ASK)
        text = httpx.get(f"{running.url}/metrics").text
    assert 'fewshot_tokens_total{kind="output",model="echo"} 3.0' in text
    assert 'fewshot_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1.0' in text


def test_metrics_are_not_on_a_port_that_others_reach(serve):
    with serve(options=Options(metrics_here=False)) as running:
        assert httpx.get(f"{running.url}/metrics").status_code == 404


@pytest.mark.parametrize("path", ["/nope", "/v1/models/", "/v1/chat/completions/x"])
def test_an_unknown_path_is_an_error_object(serve, path):
    with serve() as running:
        answer = httpx.get(f"{running.url}{path}")
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/files/file-1", "DELETE, GET"),
        ("OPTIONS", "/v1/vector_stores/vs_1", "DELETE, GET, POST"),
        ("PATCH", "/v1/responses/resp_1", "DELETE, GET"),
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/adapters/steps", "GET"),
    ],
)
def test_a_wrong_method_is_told_every_right_one(serve, method, path, allowed):
    with serve() as running:
        answer = httpx.request(method, f"{running.url}{path}")
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"model": "echo", "messages": ASK, "store": 0}),
        ("responses", {"input": "Hi", "background": 0.0}),
        ("vector_stores/facts/search", {"query": "tea", "rewrite_query": 0}),
    ],
)
def test_a_zero_is_no_false(serve, path, body):
    with serve() as running:
        answer = httpx.post(f"{running.url}/v1/{path}", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, list(body)[-1])


ROUTES = [
    ("POST", "/v1/chat/completions", "infer"),
    ("POST", "/v1/completions", "infer"),
    ("POST", "/v1/embeddings", "infer"),
    ("POST", "/v1/classify", "infer"),
    ("POST", "/v1/responses", "infer"),
    ("GET", "/v1/responses/resp_1", "infer"),
    ("DELETE", "/v1/responses/resp_1", "infer"),
    ("GET", "/v1/responses/resp_1/input_items", "infer"),
    ("POST", "/v1/responses/resp_1/cancel", "infer"),
    ("POST", "/v1/feedback", "feedback"),
    ("GET", "/v1/models", "infer"),
    ("GET", "/version", "infer"),
    ("GET", "/openapi.json", "infer"),
    ("GET", "/metrics", "admin"),
]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_every_route_asks_for_its_scope(serve, method, path, scope):
    with serve(with_keys=True) as running:
        right = running.keys.create(tenant="t", scopes=[scope])
        wrong = running.keys.create(tenant="t", scopes=[name for name in SCOPES if name != scope])
        revoked = running.keys.create(tenant="t", scopes=[scope])
        running.keys.revoke(revoked.split("_")[1])

        def ask(key):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return httpx.request(method, f"{running.url}{path}", headers=headers)

        assert ask(None).status_code == ask("fsk_00000000_x").status_code == ask(revoked).status_code == 401
        assert ask(None).json() == ask(revoked).json()
        assert ask(None).headers["www-authenticate"] == "Bearer"
        assert ask(wrong).status_code == 403
        assert ask(right).status_code not in (401, 403)


def test_without_keys_other_sites_and_proxies_are_turned_away(serve):
    with serve() as running:
        for headers in (
            {"host": "evil.example"},
            {"origin": "https://evil.example"},
            {"x-forwarded-for": "10.0.0.1"},
        ):
            assert httpx.get(f"{running.url}/v1/models", headers=headers).status_code == 400
