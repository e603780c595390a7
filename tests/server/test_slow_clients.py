"""Clients that write or read too slowly: nobody waits for them for ever."""

import contextlib
import json
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest

from server.admission import Admission
from server.app import Options
from server.bounded_http import BoundedHttp
from server.routes.bodies import Bodies

LONG = "All work and no play makes a dull answer. " * 5000


class Impatient(BoundedHttp):
    head_seconds = 1.0


def connect(url, receive_bytes=None):
    at = urlsplit(url)
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(20)
    connection.connect((at.hostname, at.port))
    return closing(connection)


def asked(text, **fields):
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": text}], **fields}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def until(condition, seconds=20.0):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-slow: "])
def test_a_head_that_does_not_come_is_not_waited_for(serve, sent):
    with serve(http=Impatient) as running, connect(running.url) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""  # closed


def test_a_second_request_has_as_long_as_the_first_and_an_answer_is_not_cut_off_by_it(serve):
    with serve(reply="abcdefghij", interval_seconds=0.2, http=Impatient) as running:
        with connect(running.url) as connection:
            connection.sendall(asked("Hello", stream=True))
            connection.sendall(b"GET /health HTTP/1.1\r\nx-slow: ")  # pipelined, and never finished
            said = b""
            while got := connection.recv(1 << 16):
                said += got
        assert b"data: [DONE]" in said


def test_who_keeps_a_connection_between_requests_may(serve):
    with serve(http=Impatient) as running, httpx.Client(base_url=running.url) as client:
        assert client.get("/health").status_code == 200
        time.sleep(1.5)  # longer than a head may take
        assert client.get("/health").status_code == 200


def test_a_reader_who_stops_is_dropped_and_its_place_is_free(serve):
    one = Admission(running=1, queue=8, deadline_seconds=30)
    options = Options(stalled_seconds=0.4)
    with serve(reply=LONG, admission=one, options=options) as running:
        with connect(running.url, receive_bytes=4096) as connection:
            connection.sendall(asked("Hello", stream=True, max_tokens=60_000))
            started = connection.recv(1024)
            assert started.startswith(b"HTTP/1.1 200")
            turn = started.split(b"x-fewshot-id: ")[1].split(b"\r\n")[0].decode()
            other = running.client().chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "Hi"}], max_tokens=3
            )
            assert other.choices[0].message.content == "All"  # the only place in the engine
            until(lambda: one.running == 0 and running.decoder.running == 0)
            rest = b""
            while got := connection.recv(1 << 16):  # what the kernel had taken already
                rest = rest[-100:] + got
            assert b"[DONE]" not in rest
            assert not rest.endswith(b"0\r\n\r\n")
        assert running.journalled(turn)["replies.outcome"] == "cancelled"


def test_a_reader_who_is_slow_but_reads_gets_all_of_it(serve):
    reply = LONG[:20_000]
    with serve(reply=reply, options=Options(stalled_seconds=4)) as running:
        with connect(running.url, receive_bytes=4096) as connection:
            connection.sendall(asked("Hello", stream=True, max_tokens=20_000))
            said = b""
            while not said.endswith(b"0\r\n\r\n"):
                got = connection.recv(1 << 16)
                assert got
                said += got
                time.sleep(0.002)
        text = "".join(
            choice["delta"].get("content") or ""
            for line in said.split(b"\n")
            if line.startswith(b"data: {")
            for choice in json.loads(line[6:])["choices"]
        )
        assert text == reply


def test_a_body_that_does_not_come_holds_no_place(serve):
    one = Admission(running=1, queue=0, deadline_seconds=30)
    with serve(reply="Hi", admission=one) as running, connect(running.url) as connection:
        connection.sendall(asked("Hello")[:-5])
        answer = running.client().chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.choices[0].message.content == "Hi"


class Few(BoundedHttp):
    most = 3


def answers(connection, request=b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"):
    """The status a connection gets, 0 for none."""
    try:
        connection.sendall(request)
        head = connection.recv(1 << 16)
    except OSError:
        return 0
    return int(head.split()[1]) if head else 0


def test_who_only_holds_connections_keeps_nobody_out(serve):
    with serve(http=Few) as running, contextlib.ExitStack() as held:
        first, second, third = (held.enter_context(connect(running.url)) for _ in range(3))
        assert answers(first) == 200  # so that it is silent for the shortest time
        newcomer = held.enter_context(connect(running.url))
        assert answers(newcomer) == 200
        assert second.recv(100) == b""  # the longest silent
        assert answers(third) == answers(first) == 200
        for _ in range(20):
            assert answers(held.enter_context(connect(running.url))) == 200


def test_when_all_connections_are_at_work_a_newcomer_is_told_to_come_again(serve):
    with (
        serve(reply=LONG, interval_seconds=0.05, http=Few) as running,
        contextlib.ExitStack() as held,
    ):
        working = [held.enter_context(connect(running.url)) for _ in range(3)]
        for connection in working:
            connection.sendall(asked("Hello", stream=True, max_tokens=60_000))
            assert connection.recv(1024).startswith(b"HTTP/1.1 200")
        refused = httpx.get(f"{running.url}/v1/models")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        assert refused.headers["x-request-id"].startswith("req_")
        assert httpx.get(f"{running.url}/health").status_code == 200
        assert httpx.get(f"{running.url}/ready").status_code == 200
        assert all(connection.recv(1 << 16) for connection in working)  # nobody at work was cut off
        working[0].close()
        until(lambda: httpx.get(f"{running.url}/v1/models").status_code == 200)


def test_bodies_that_are_being_read_are_bounded_together(serve):
    options = Options(bodies=Bodies(most_bytes=200_000))
    with serve(reply="Hi", options=options) as running, connect(running.url) as slow:
        body = asked("x" * 150_000)
        slow.sendall(body[:-5])
        until(lambda: options.bodies.reading_bytes > 149_000)
        refused = httpx.post(f"{running.url}/v1/chat/completions", content=body.split(b"\r\n\r\n")[1])
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        slow.sendall(body[-5:])
        assert slow.recv(1024).startswith(b"HTTP/1.1 400")  # read whole, and longer than the context
        until(lambda: options.bodies.reading_bytes == 0)


def test_a_body_that_does_not_come_in_time_is_408(serve):
    options = Options(bodies=Bodies(seconds=0.3))
    with serve(reply="Hi", options=options) as running, connect(running.url) as slow:
        slow.sendall(asked("Hello")[:-5])
        assert slow.recv(1024).startswith(b"HTTP/1.1 408")
    assert options.bodies.reading_bytes == 0
