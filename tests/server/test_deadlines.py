"""A request ends by its deadline wherever it is: in the queue, before its first token, after it, streamed."""

import time

import httpx
import pytest

from server.admission import Admission
from tests.server.leaving import seconds_until
from tests.server.test_slow_clients import asked, connect

ASK = {"model": "echo", "messages": [{"role": "user", "content": "All work and no play"}]}
LATE_SECONDS = 15.0  # a busy machine's, on top of the deadline: none would take as long as the answer
PLACES = {
    "queue": {"interval_seconds": 2},
    "prefill": {},
    "decoding": {"interval_seconds": 2},
    "stream": {"interval_seconds": 2},
}
CASES = [("queue", 0.3), ("prefill", 0.3), ("decoding", 0.1), ("decoding", 1.5), ("stream", 0.4)]


@pytest.mark.parametrize(("place", "deadline"), CASES)
def test_the_deadline_ends_it_and_frees_its_place(serve, place, deadline):
    one = Admission(running=1, queue=4, deadline_seconds=60)
    with serve(admission=one, **PLACES[place]) as running, httpx.Client(base_url=running.url) as client:
        stream = place == "stream"
        if place == "prefill":
            running.decoder._first_seconds = 60  # only now: the start waits for a first token too
        if place == "queue":  # somebody else has the place
            other = running.clients.enter_context(connect(running.url))
            other.sendall(asked("x" * 40))
            assert seconds_until(lambda: running.decoder.running == 1, 20) < 20
        began = time.monotonic()
        headers = {"x-request-timeout": str(deadline)}
        answer = client.post(
            "/v1/chat/completions", json={**ASK, "stream": stream}, headers=headers, timeout=50
        )
        took = time.monotonic() - began
        if stream:
            assert answer.status_code == 200
            assert '"code":"deadline_exceeded"' in answer.text
            assert "[DONE]" not in answer.text
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
            assert answer.headers["x-should-retry"] == "false"
        assert deadline - 0.01 <= took < deadline + LATE_SECONDS
        others = 1 if place == "queue" else 0
        assert seconds_until(lambda: (one.running, running.decoder.running) == (others, others), 20) < 20
        assert one.waiting == 0
