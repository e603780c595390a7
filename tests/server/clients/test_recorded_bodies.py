"""What Open WebUI and LibreChat send: every body is answered, in the shape that they read."""

import json
from pathlib import Path

import httpx
import pytest

from server.keys import SCOPES

BODIES = Path(__file__).parent / "bodies"


def said(answer: httpx.Response) -> str:
    """The text of an answer, streamed or whole, of chat or of Responses."""
    if "text/event-stream" not in answer.headers["content-type"]:
        return answer.json()["choices"][0]["message"]["content"]
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    if frames[-1] == "[DONE]":
        chunks = [json.loads(frame) for frame in frames[:-1]]
        finished = [one["finish_reason"] for chunk in chunks for one in chunk["choices"]]
        assert [reason for reason in finished if reason] == ["stop"]
        deltas = [one["delta"] for chunk in chunks for one in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)
    events = [json.loads(frame) for frame in frames]
    assert events[-1]["type"] == "response.completed"
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def question(body: dict) -> str:
    content = (body.get("messages") or body["input"])[-1]["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def check(call: dict, done: httpx.Response) -> None:
    assert done.status_code == 200, done.text
    if call["path"].startswith("/v1/models"):
        assert done.json()["data"][0]["id"] == "echo"
    elif call["path"] == "/v1/embeddings":
        assert len(done.json()["data"]) == len(call["body"]["input"])
    else:
        expected = call.get("said") or question(call["body"])  # an echo
        assert said(done) == expected[: call["body"].get("max_tokens", len(expected))]


@pytest.mark.parametrize("program", ["open_webui", "librechat"])
def test_every_body_is_answered(serve, tmp_path, program):
    recorded = json.loads((BODIES / f"{program}.json").read_text())
    with serve(with_keys=True, folder=tmp_path / "data") as running:
        key = running.keys.create(tenant="t", scopes=list(SCOPES))
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}) as client:
            for call in recorded["calls"]:
                options = {"json": call.get("body"), "headers": call.get("headers")}
                done = client.request(call.get("method", "POST"), call["path"], **options)
                try:
                    check(call, done)
                except Exception as problem:
                    problem.add_note(f"{recorded['program']} {recorded['version']}: {call['name']}")
                    raise
