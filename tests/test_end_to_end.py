"""The real server on the real 135M model, once, through the unmodified openai client.

Needs the default models in the cache (`fewshot models fetch`; `make test` sees to it).
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from click.testing import CliRunner

from server.cli import main
from server.settings import Settings

CORPUS = Path(__file__).parent.parent / "deploy" / "demo"
MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
pytestmark = pytest.mark.timeout(600)  # the engine's start is one test's time


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server process over thirty documents of the demo."""
    models = Settings().paths.cache / "models"
    for name in (MODEL, EMBEDDER):
        assert (models / name / "config.json").is_file(), f"{name} is missing: run `fewshot models fetch`"
    data = tmp_path_factory.mktemp("data")
    few = data / "few.jsonl"
    few.write_text("".join((CORPUS / "abstracts.jsonl").read_text().splitlines(keepends=True)[:30]))
    env = {
        **os.environ,
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_PATHS_DEMOS": str(CORPUS / "examples.jsonl"),
        "FEWSHOT_ENGINE_TOOL_PARSER": "hermes",
    }
    done = CliRunner(env=env).invoke(main, ["ingest", str(few), "--store", "studies"])
    assert done.exit_code == 0, done.output
    log = data / "server.log"
    with log.open("w") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", "--port", "0"], stderr=stderr, env=env
        )
    try:
        base = _address(log, child)
        with pytest.raises(openai.InternalServerError) as starting:  # the port answers before the engine does
            client(base).chat.completions.create(model=MODEL, messages=FRANCE)
        assert starting.value.code == "starting"
        while httpx.get(f"{base}/ready").status_code != 200:
            assert child.poll() is None, log.read_text()[-2000:]
            time.sleep(0.5)
        yield base
        client(base).close()
        child.terminate()
        assert child.wait(60) == 0, log.read_text()[-2000:]
        assert "Traceback" not in log.read_text()  # an orderly end looks like one
    finally:
        child.kill()
        child.wait()


@lru_cache(maxsize=1)
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120)


def _address(log: Path, child: "subprocess.Popen[bytes]") -> str:
    while not (found := re.search(r"http://\S+(?=/v1)", log.read_text())):
        assert child.poll() is None, log.read_text()
        time.sleep(0.1)
    return found[0]


def test_it_answers_and_streams_the_same_answer(url):
    ask = {"model": MODEL, "messages": FRANCE, "temperature": 0, "max_tokens": 20}
    whole = client(url).chat.completions.create(**ask)
    assert "Paris" in whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    usage = {"include_usage": True}
    stream = list(client(url).chat.completions.create(**ask, stream=True, stream_options=usage))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == whole.choices[0].message.content
    assert stream[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert whole.system_fingerprint.startswith("fp_")


def test_a_seed_draws_the_same_answer_again_and_the_seed_is_reported(url):
    ask = {"model": MODEL, "messages": FRANCE, "temperature": 1, "max_tokens": 12}
    first = client(url).chat.completions.create(**ask)
    seed = first.fewshot["sampling"]["seed"]
    again = client(url).chat.completions.create(**ask, seed=seed)
    assert again.choices[0].message.content == first.choices[0].message.content


def test_choices_stop_and_logprobs(url):
    done = client(url).chat.completions.create(
        model=MODEL,
        messages=FRANCE,
        temperature=0,
        n=2,
        stop=[" is"],
        logprobs=True,
        top_logprobs=2,
        max_tokens=20,
    )
    texts = [choice.message.content for choice in done.choices]
    assert texts == ["The capital of France"] * 2
    first = done.choices[0].logprobs.content[0]
    assert first.token == "The"
    assert first.logprob == max(other.logprob for other in first.top_logprobs)
    assert len(first.top_logprobs) == 2


def test_completions_take_text_and_ids_and_score_with_echo(url):
    ask = {"model": MODEL, "max_tokens": 8, "temperature": 0}
    text = client(url).completions.create(prompt="The capital of France is", **ask)
    scored = client(url).completions.create(
        model=MODEL, prompt="The capital of France is Paris", max_tokens=0, echo=True, logprobs=1
    )
    assert text.usage.completion_tokens == 8
    logprobs = scored.choices[0].logprobs
    assert "".join(logprobs.tokens) == "The capital of France is Paris"
    assert logprobs.token_logprobs[0] is None
    assert logprobs.token_logprobs[-1] > -5


def test_json_schema_answers_parse(url):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    }
    done = client(url).chat.completions.create(
        model=MODEL,
        messages=FRANCE,
        temperature=0,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    )
    assert set(json.loads(done.choices[0].message.content)) == {"city"}


WEATHER = {
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 16}},
        "required": ["town"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": WEATHER}]
RAIN = [{"role": "user", "content": "Will it rain in Oslo today?"}]


@pytest.mark.parametrize(
    ("choice", "finish"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "weather"}}, "stop")],
    ids=["required", "by-name"],
)
def test_a_forced_call_fits_its_schema_whole_and_streamed(url, choice, finish):
    ask = {"model": MODEL, "messages": RAIN, "tools": TOOLS, "tool_choice": choice}
    ask |= {"temperature": 0, "max_tokens": 60, "parallel_tool_calls": False}
    (whole,) = client(url).chat.completions.create(**ask).choices
    with client(url).chat.completions.stream(**ask) as stream:
        (streamed,) = stream.get_final_completion().choices
    for choice in (whole, streamed):
        (call,) = choice.message.tool_calls
        assert (choice.finish_reason, call.function.name) == (finish, "weather")
        assert set(json.loads(call.function.arguments)) == {"town"}
    assert streamed.message.tool_calls[0].function.arguments == call.function.arguments


def test_the_model_may_call_and_goes_on_with_what_came_of_it(url):
    ask = {"model": MODEL, "tools": [{"type": "function", **WEATHER}], "temperature": 0}
    free = client(url).responses.create(input=RAIN, **ask, max_output_tokens=40)
    assert {item.type for item in free.output} <= {"message", "function_call"}
    forced = client(url).responses.create(input=RAIN, **ask, max_output_tokens=60, tool_choice="required")
    given = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "It will snow all day."}
        for item in forced.output
    ]
    ask |= {"previous_response_id": forced.id, "max_output_tokens": 40}
    after = client(url).responses.create(input=given, **ask, tool_choice="none")
    assert "snow" in after.output_text


def test_documents_reach_the_answer_with_their_sources(url):
    done = client(url).chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Does music influence stress in ventilated patients?"}],
        max_tokens=60,
        extra_body={"fewshot": {"vector_store_ids": ["studies"]}},
    )
    provenance = done.fewshot
    assert provenance["grounding"] == "grounded"
    assert "music" in provenance["sources"][0]["title"].lower()
    assert done.usage.prompt_tokens + done.usage.completion_tokens <= 2048
    numbers = {source["n"] for source in provenance["sources"] if source["used"]}
    assert {citation["n"] for citation in provenance["citations"]} <= numbers


def test_a_response_searches_streams_and_is_kept(url):
    ask = {
        "model": MODEL,
        "input": "Does music influence stress in ventilated patients?",
        "tools": [{"type": "file_search", "vector_store_ids": ["studies"]}],
        "max_output_tokens": 60,
    }
    whole = client(url).responses.create(**ask)
    last = list(client(url).responses.create(**ask, stream=True))[-1]  # completed, or incomplete at 60 tokens
    assert last.response.output_text == whole.output_text
    assert [item.type for item in last.response.output] == ["file_search_call", "message"]
    assert client(url).responses.retrieve(last.response.id).to_dict() == last.response.to_dict()
    sources = {source["n"] for source in whole.fewshot["sources"] if source["used"]}
    assert {citation["n"] for citation in whole.fewshot["citations"]} <= sources


def test_worked_examples_are_picked_by_nearness(url):
    done = client(url).chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=5, extra_body={"fewshot": {"demos": 3}}
    )
    assert len(done.fewshot["demos"]["used"]) == 3


def test_a_prompt_over_the_context_is_refused(url):
    with pytest.raises(openai.BadRequestError) as refused:
        client(url).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 5000}], max_tokens=5
        )
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_is_aborted_in_the_engine(url, stream):
    body = {"model": MODEL, "messages": FRANCE, "stream": stream, "max_tokens": 1500, "ignore_eos": True}
    address = f"{url}/v1/chat/completions"
    try:
        with httpx.stream("POST", address, json=body, timeout=1.5) as response:
            next(response.iter_raw())
    except httpx.ReadTimeout:
        assert not stream
    time.sleep(1.0)
    deadline = time.monotonic() + 5
    while (running := _running(url)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running == 0


def test_embeddings_and_models(url):
    made = client(url).embeddings.create(model=EMBEDDER, input=["cat", "kitten", "algebra"])
    cat, kitten, algebra = (np.array(row.embedding) for row in made.data)
    assert cat @ kitten > cat @ algebra
    assert np.isclose(np.linalg.norm(cat), 1, atol=1e-5)
    assert [model.id for model in client(url).models.list()] == [MODEL, EMBEDDER]


def _running(url: str) -> float:
    """vLLM's own gauge of requests in the engine."""
    text = httpx.get(f"{url}/metrics").text
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running")
    )
