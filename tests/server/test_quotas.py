"""What one key may use: buckets in virtual time, and the headers and refusals over HTTP."""

import json
import time

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import RateLimited
from server.quotas import Quotas, Rates
from server.wire.headers import duration

HELLO = [{"role": "user", "content": "0123456789"}]


class Clock:
    """Time as the test says."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_minutes_worth_at_once_and_then_as_it_refills():
    clock = Clock()
    quotas = Quotas(Rates(requests_per_minute=6), clock=clock)
    for _ in range(6):
        quotas.take("k", Rates(), tokens=1)
    with pytest.raises(RateLimited) as refused:
        quotas.take("k", Rates(), tokens=1)
    assert refused.value.retry_after_seconds == pytest.approx(10)
    clock.now = 10
    quotas.take("k", Rates(), tokens=1)
    quotas.take("other", Rates(), tokens=1)  # each key for itself


def test_tokens_are_reserved_by_the_bound_and_settled_by_the_truth():
    quotas = Quotas(Rates(tokens_per_minute=100), clock=Clock())
    allowance = quotas.take("k", Rates(), tokens=90)
    assert allowance.standings()["tokens"].remaining == 10
    with pytest.raises(RateLimited):
        quotas.take("k", Rates(), tokens=20)
    allowance.settle(30)
    allowance.settle(99)  # once is enough
    assert allowance.standings()["tokens"].remaining == 70
    giant = quotas.take("k2", Rates(), tokens=1_000)  # more than there ever is: needs a full bucket
    giant.settle(50)
    assert giant.standings()["tokens"].remaining == 50


def test_a_key_s_own_limit_counts_and_zero_is_none():
    quotas = Quotas(Rates(1, 1, 1), clock=Clock())
    for _ in range(9):
        quotas.take("free", Rates(0, 0, 0), tokens=9)
    quotas.take("two", Rates(2, 0, 0), tokens=9)
    quotas.take("two", Rates(2, 0, 0), tokens=9)
    with pytest.raises(RateLimited, match="2 requests a minute"):
        quotas.take("two", Rates(2, 0, 0), tokens=9)


def test_requests_at_once_are_bounded_and_what_the_server_refuses_counts_for_nothing():
    quotas = Quotas(Rates(requests_per_minute=2, concurrent=1), clock=Clock())
    first = quotas.take("k", Rates(), tokens=1)
    with pytest.raises(RateLimited, match="at once"):
        quotas.take("k", Rates(), tokens=1)
    first.cancel()
    for _ in range(2):
        quotas.take("k", Rates(), tokens=1).settle(1)


@given(
    size=st.integers(1, 500),
    steps=st.lists(
        st.tuples(st.floats(0, 30), st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=40
    ),
)
def test_no_key_ever_uses_more_than_a_bucket_and_its_refill(size, steps):
    """With bounds that hold and none above the bucket: used in [0, t] ≤ size + t·size/60."""
    clock = Clock()
    quotas = Quotas(Rates(tokens_per_minute=size), clock=clock)
    used = 0
    for seconds, bound, share in steps:
        clock.now += seconds
        bound = min(bound, size)
        try:
            allowance = quotas.take("k", Rates(), tokens=bound)
        except RateLimited as refused:
            wait = refused.retry_after_seconds
            assert 0 < wait <= 60
            clock.now += wait + 1e-6  # as told: now it is granted
            allowance = quotas.take("k", Rates(), tokens=bound)
        really = int(bound * share)
        allowance.settle(really)
        used += really
        assert used <= size + clock.now * size / 60 + 1e-3


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0ms"), (0.12, "120ms"), (1.5, "1.5s"), (59.9999, "1m0s"), (60, "1m0s"), (95.25, "1m35.25s")],
)
def test_durations_read_as_openai_writes_them(seconds, said):
    assert duration(seconds) == said


def post(running, key, path="/chat/completions", **fields):
    body = {"model": "echo", "messages": HELLO, **fields}
    return httpx.post(
        f"{running.url}/v1{path}", json=body, headers={"authorization": f"Bearer {key}"}, timeout=20
    )


def test_headers_tell_what_is_left_by_the_true_tokens(serve):
    with serve(with_keys=True) as running:
        key = running.keys.create(tenant="t", scopes=["infer"], rates=Rates(3, 6_000))
        whole = post(running, key, max_tokens=500)
        used = whole.json()["usage"]["total_tokens"]
        assert whole.headers["x-ratelimit-limit-requests"] == "3"
        assert whole.headers["x-ratelimit-remaining-requests"] == "2"
        assert whole.headers["x-ratelimit-limit-tokens"] == "6000"
        left = int(whole.headers["x-ratelimit-remaining-tokens"])
        assert 6_000 - used <= left <= 6_000 - used + 100  # a second refills a hundred
        assert whole.headers["x-ratelimit-reset-requests"].endswith("s")
        streamed = post(running, key, max_tokens=500, stream=True)
        assert int(streamed.headers["x-ratelimit-remaining-tokens"]) < 6_000 - 500
        vectors = {"model": "hash", "input": "tea"}
        embedded = httpx.post(
            f"{running.url}/v1/embeddings", json=vectors, headers={"authorization": f"Bearer {key}"}
        )
        assert embedded.headers["x-ratelimit-remaining-requests"] == "0"
        tokens = int(embedded.headers["x-ratelimit-remaining-tokens"])
        assert tokens > 6_000 - 500  # the stream was settled
        for path in ("/chat/completions", "/responses"):
            refused = post(running, key, path)
            assert (refused.status_code, refused.json()["error"]["type"]) in (
                (429, "rate_limit_error"),
                (400, "invalid_request_error"),  # responses take input, not messages: validated first
            )
        refused = post(running, key)
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError):
            running.client(api_key=key).chat.completions.create(model="echo", messages=HELLO)
        free = running.keys.create(tenant="t", scopes=["infer"])
        assert not any(name.startswith("x-ratelimit") for name in post(running, free).headers)


def test_a_refused_request_never_meets_the_engine(serve):
    with serve(with_keys=True) as running:
        key = running.keys.create(tenant="t", scopes=["infer"], rates=Rates(1))
        post(running, key)
        before = running.parts.metrics.exposition()
        seen = [line for line in before.decode().splitlines() if line.startswith("fewshot_tokens_total")]
        assert post(running, key).status_code == 429
        after = running.parts.metrics.exposition().decode().splitlines()
        assert [line for line in after if line.startswith("fewshot_tokens_total")] == seen
        assert any("rate_limit_exceeded" in line for line in after)


def test_a_caller_who_goes_away_frees_its_place_and_pays_for_what_it_got(serve):
    with serve(with_keys=True, interval_seconds=0.05) as running:
        key = running.keys.create(tenant="t", scopes=["infer"], rates=Rates(0, 6_000, 1))
        body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 400}], "stream": True}
        headers = {"authorization": f"Bearer {key}"}
        url = f"{running.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=20) as response:
            frames = response.iter_raw()  # kept: a dropped iterator closes the connection
            next(frames)
            assert post(running, key, max_tokens=1).status_code == 429
        for _ in range(40):
            again = post(running, key, max_tokens=1)
            if again.status_code == 200:
                break
            time.sleep(0.05)
        assert again.status_code == 200, json.dumps(again.json())
        assert int(again.headers["x-ratelimit-remaining-tokens"]) > 4_000  # not the bound of 1,024 twice
