"""Spans of real requests, as an exporter gets them: names, parents, times, and nothing that was said."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from server.tracing import INSTALL, Tracing
from tests.server.test_serving import serving

SECRET = "zanzibar"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
ASK = {"model": "echo", "messages": [{"role": "user", "content": f"How hot does iron melt in {SECRET}?"}]}


@pytest.fixture
def traced(serve):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    with serve(observers=[tracing.request], listeners=[tracing.replied]) as running:
        yield running, exporter
    tracing.close()


def spans(exporter, many):
    """The spans by the first word of their names; the server's ends after the client has its answer."""
    waiting = threading.Event()
    for _ in range(500):
        found = exporter.get_finished_spans()
        if len(found) >= many:
            assert len(found) == many, [span.name for span in found]
            return {span.name.split()[0]: span for span in found}
        waiting.wait(0.01)
    raise AssertionError([span.name for span in exporter.get_finished_spans()])


@pytest.mark.parametrize("stream", [False, True])
def test_a_grounded_answer_is_three_spans_under_the_callers(traced, stream):
    running, exporter = traced
    body = {**ASK, "stream": stream, "max_tokens": 8, "seed": 5, "fewshot": {"vector_store_ids": ["facts"]}}
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=body, headers=PARENT)
    assert answer.status_code == 200
    found = spans(exporter, 3)
    request, retrieval, chat = found["POST"], found["retrieval"], found["chat"]
    assert request.name == "POST /v1/chat/completions"
    assert {span.context.trace_id for span in found.values()} == {int(TRACE, 16)}
    assert request.parent.span_id == int("b7ad6b7169203331", 16)
    assert retrieval.parent.span_id == chat.parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["fewshot.request.id"] == answer.headers["x-request-id"]
    assert retrieval.name == "retrieval facts"
    assert retrieval.attributes["gen_ai.operation.name"] == "retrieval"
    assert retrieval.attributes["fewshot.sources.count"] >= 1
    assert chat.name == "chat echo"
    said = chat.attributes
    assert said["gen_ai.response.id"] == answer.headers["x-fewshot-id"]
    assert (said["gen_ai.request.seed"], said["gen_ai.request.stream"]) == (5, stream)
    assert (said["gen_ai.usage.output_tokens"], said["gen_ai.response.finish_reasons"]) == (8, ("length",))
    assert said["fewshot.grounding"] == "grounded"
    assert said["fewshot.prompt.sha256"].startswith(answer.headers["x-fewshot-prompt"])
    assert request.start_time <= retrieval.start_time <= retrieval.end_time <= chat.start_time + 1_000_000
    assert chat.start_time <= chat.end_time <= request.end_time + 1_000_000  # clocks are read a moment apart


def test_no_span_holds_what_was_said_or_who_said_it(traced):
    running, exporter = traced
    for path, body in (
        ("chat/completions", {**ASK, "fewshot": {"vector_store_ids": ["facts"], "demos": 1}, "user": SECRET}),
        ("completions", {"model": "echo", "prompt": SECRET}),
        ("responses", {"model": "echo", "input": SECRET}),
        ("vector_stores/facts/search", {"query": SECRET}),
        (f"vector_stores/{SECRET}/search?{SECRET}={SECRET}", {"query": SECRET}),
        ("chat/completions", {**ASK, SECRET: SECRET}),
    ):
        headers = {"authorization": f"Bearer {SECRET}", "x-client-request-id": SECRET}
        httpx.post(f"{running.url}/v1/{path}", json=body, headers=headers)
    for _ in range(200):
        if len(exporter.get_finished_spans()) >= 10:
            break
        threading.Event().wait(0.01)
    told = [span.to_json() for span in exporter.get_finished_spans()]
    assert len(told) >= 10
    assert not [span for span in told if SECRET in span or "iron" in span.lower()]


def test_a_refusal_is_one_span_named_without_what_its_path_says(traced):
    running, exporter = traced
    httpx.post(f"{running.url}/v1/chat/completions", json={"model": "nobody", "messages": ASK["messages"]})
    assert spans(exporter, 1)["POST"].attributes["http.response.status_code"] == 404
    exporter.clear()
    httpx.get(f"{running.url}/nowhere/{SECRET}")
    assert spans(exporter, 1)["GET"].name == "GET unknown"


def test_a_server_sends_its_spans_when_it_ends(tmp_path):
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    settings = {
        "FEWSHOT_TELEMETRY_TRACES": "true",
        "FEWSHOT_TELEMETRY_ENDPOINT": f"http://127.0.0.1:{collector.server_port}/v1/traces",
        "FEWSHOT_TELEMETRY_LOGS": "json",
        "FEWSHOT_TELEMETRY_LOG_REQUESTS": "true",
    }
    with serving(tmp_path, **settings) as (child, url):
        answer = httpx.post(f"{url}/v1/chat/completions?secret={SECRET}", json=ASK)
        httpx.post(f"{url}/v1/files/{SECRET}", headers={"authorization": SECRET})
        child.terminate()
        assert child.wait(20) == 0
        lines = [json.loads(line) for line in child.stderr.read().splitlines() if line.startswith("{")]
    collector.shutdown()
    collector.server_close()
    sent = b"".join(got)
    assert b"chat echo" in sent
    assert SECRET.encode() not in sent
    requests = {line["route"]: line for line in lines if line["logger"] == "fewshot.requests"}
    logged = requests["/v1/chat/completions"]
    assert logged["request_id"] == answer.headers["x-request-id"]
    assert logged["turn"] == answer.headers["x-fewshot-id"]
    assert (logged["status"], logged["method"], logged["level"]) == (200, "POST", "info")
    assert 0 < logged["seconds"] < 20
    assert SECRET not in json.dumps(lines)


def test_without_opentelemetry_the_way_out_is_named():
    script = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None; from server.tracing import *\n"
        "try: open_tracing(None, 1.0)\nexcept TracingUnavailable as problem: print(problem)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == INSTALL
