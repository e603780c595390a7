"""What programs do through the openai client, once for the sync and the async one, on any 3.x.

`go`, `each` and `opened` hide the difference. Run by itself, it needs the client and an address alone:

    python client_flows.py http://127.0.0.1:8000 KEY
"""

import asyncio
import base64
import contextlib
import inspect
import json
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
from pydantic import BaseModel

CHAT, EMBEDDER = "echo", "hash"
HELLO = [{"role": "user", "content": "Hello"}]
CATS = [{"role": "user", "content": "How long do cats sleep? Thirteen hours [1], not [9]."}]
TEA = b"Green tea is steeped at eighty degrees for two minutes."
SLEEP = b"Cats sleep for thirteen hours a day and hunt at dusk."
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
RESULTS = "file_search_call.results"
Flow = Callable[[Any], Awaitable[None]]
FLOWS: dict[str, Flow] = {}


def flow(run: Flow) -> Flow:
    FLOWS[run.__name__] = run
    return run


async def go(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def each(value: Any) -> AsyncIterator[Any]:
    """The items of a page and of those after it, or of a stream."""
    value = value if hasattr(value, "__aiter__") else await go(value)
    if hasattr(value, "__aiter__"):
        async for item in value:
            yield item
    else:
        for item in value:
            yield item


async def every(value: Any) -> list[Any]:
    return [item async for item in each(value)]


@contextlib.asynccontextmanager
async def opened(manager: Any) -> AsyncIterator[Any]:
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


@contextlib.asynccontextmanager
async def refused(kind: type[openai.APIStatusError], **says: Any) -> AsyncIterator[None]:
    met: openai.APIStatusError | None = None
    try:
        yield
    except kind as error:
        met = error
    assert met is not None, f"no {kind.__name__}"
    assert (met.request_id or "").startswith("req_"), met.request_id
    for name, value in says.items():
        held = str(getattr(met, name))
        assert str(value) in held, f"{name}: {held!r} has no {value!r}"


async def a_store(client: Any, **files: bytes) -> tuple[str, dict[str, str]]:
    store = (await go(client.vector_stores.create(name="facts"))).id
    ids = {}
    for name, data in files.items():
        file = await go(
            client.vector_stores.files.upload_and_poll(
                vector_store_id=store, file=(f"{name}.txt", data), attributes={"about": name}
            )
        )
        assert file.status == "completed", file.last_error
        ids[name] = file.id
    return store, ids


@flow
async def models(client):
    listed = await every(client.models.list())
    assert [model.id for model in listed][:1] == [CHAT]
    assert (await go(client.models.retrieve(CHAT))).id == CHAT
    for name in ("base:refund@3", "org/name", "no such"):
        async with refused(openai.NotFoundError, code="model_not_found", message=name):
            await go(client.models.retrieve(name))


@flow
async def chat_whole(client):
    raw = await go(client.chat.completions.with_raw_response.create(model=CHAT, messages=HELLO, n=3))
    done = raw.parse()
    assert [choice.message.content for choice in done.choices] == ["Hello"] * 3
    assert done._request_id == raw.headers["x-request-id"]
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert done.fewshot["id"] == done.id == raw.headers["x-fewshot-id"]


@flow
async def chat_log_probabilities(client):
    done = await go(client.chat.completions.create(model=CHAT, messages=HELLO, logprobs=True, top_logprobs=1))
    tokens = done.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == "Hello"
    assert all(len(token.top_logprobs) == 1 for token in tokens)


@flow
async def chat_stream(client):
    chunks = await every(
        client.chat.completions.create(
            model=CHAT, messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
        )
    )
    # Traps 5 to 9: one role a choice, in order; usage last and alone; the extension first.
    roles = [c.choices[0].index for c in chunks if c.choices and c.choices[0].delta.role]
    assert roles == [0, 1]
    assert chunks[-1].usage.completion_tokens == 2 * len("Hello")
    assert chunks[-1].choices == []
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.system_fingerprint for chunk in chunks}) == 1
    assert chunks[0].fewshot["id"] == chunks[0].id
    assert not any((chunk.model_extra or {}).get("error") for chunk in chunks)


@flow
async def chat_stream_helper(client):
    store, _ = await a_store(client, cats=SLEEP)
    ask = {
        "model": CHAT,
        "messages": CATS,
        "n": 2,
        "stream_options": {"include_usage": True},
        "extra_body": {"fewshot": {"vector_store_ids": [store], "template": "grounded"}},
    }
    async with opened(client.chat.completions.stream(**ask)) as stream:
        await every(stream)
        done = await go(stream.get_final_completion())
    assert done.usage.completion_tokens > 0
    assert done.system_fingerprint
    for choice in done.choices:
        assert choice.message.role == "assistant"
        assert "[9]" not in choice.message.content
        assert choice.message.annotations
        for note in choice.message.annotations:  # trap 15: the one type that chat knows
            cited = note.url_citation
            assert choice.message.content[cited.start_index : cited.end_index] == "[1]"


class Greeting(BaseModel):
    word: str


@flow
async def chat_parse(client):
    messages = [{"role": "user", "content": '{"word": "Hello"}'}]
    parse = getattr(client.chat.completions, "parse", None) or client.beta.chat.completions.parse
    done = await go(parse(model=CHAT, messages=messages, response_format=Greeting))
    assert done.choices[0].message.parsed == Greeting(word="Hello")


@flow
async def chat_file_search_tool(client):
    store, files = await a_store(client, cats=SLEEP, tea=TEA)
    tool = {
        "type": "file_search",  # traps 14 and 16: untyped here, with what the OGX harness sends
        "vector_store_ids": [store],
        "max_num_results": 20,
        "search_mode": "keyword",
        "filters": {"type": "eq", "key": "about", "value": "cats"},
    }
    done = await go(
        client.chat.completions.create(
            model=CHAT,
            messages=CATS,
            tools=[tool],
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
    )
    assert [source["file_id"] for source in done.fewshot["sources"]] == [files["cats"]]


@flow
async def completions(client):
    done = await go(
        client.completions.create(model=CHAT, prompt="Hello", echo=True, max_tokens=2, logprobs=1)
    )
    assert done.choices[0].text == "HelloHe"
    assert done.choices[0].logprobs.token_logprobs[0] is None
    chunks = await every(
        client.completions.create(model=CHAT, prompt=["ab", "cd"], max_tokens=9, stream=True)
    )
    said = {n: "".join(c.choices[0].text for c in chunks if c.choices[0].index == n) for n in (0, 1)}
    assert said == {0: "ab", 1: "cd"}


@flow
async def embeddings(client):
    usual = await go(client.embeddings.create(model=EMBEDDER, input=["tea", "cats"]))
    floats = await go(client.embeddings.create(model=EMBEDDER, input="tea", encoding_format="float"))
    packed = await go(client.embeddings.create(model=EMBEDDER, input="tea", encoding_format="base64"))
    assert usual.data[0].embedding == floats.data[0].embedding
    assert isinstance(packed.data[0].embedding, str)
    assert [item.index for item in usual.data] == [0, 1]
    values = base64.b64decode(packed.data[0].embedding)
    numbers = struct.unpack(f"<{len(values) // 4}f", values)
    assert max(abs(a - b) for a, b in zip(numbers, floats.data[0].embedding, strict=True)) < 1e-6
    for ids in ([1, 2], [[1], [2]]):  # trap 12
        async with refused(
            openai.BadRequestError, code="unsupported_parameter", message="check_embedding_ctx_length=False"
        ):
            await go(client.embeddings.create(model=EMBEDDER, input=ids))


@flow
async def responses_whole(client):
    store, files = await a_store(client, cats=SLEEP)
    tool = {"type": "file_search", "vector_store_ids": [store]}
    done = await go(
        client.responses.create(model=CHAT, input=CATS[0]["content"], tools=[tool], include=[RESULTS])
    )
    search, message = done.output
    assert [result.file_id for result in search.results] == [files["cats"]]
    assert message.content[0].annotations
    for note in message.content[0].annotations:
        assert (note.type, note.file_id) == ("file_citation", files["cats"])
    again = await go(client.responses.retrieve(done.id, include=[RESULTS]))
    assert again.output_text == done.output_text
    assert [item.role for item in await every(client.responses.input_items.list(done.id))] == ["user"]
    await go(client.responses.delete(done.id))
    async with refused(openai.NotFoundError, code="not_found"):
        await go(client.responses.retrieve(done.id))


@flow
async def responses_chain(client):
    first = await go(client.responses.create(model=CHAT, input="One"))
    second = await go(client.responses.create(model=CHAT, input="Two", previous_response_id=first.id))
    third = await go(client.responses.create(model=CHAT, input="Three", previous_response_id=second.id))
    assert (third.previous_response_id, third.output_text) == (second.id, "Three")
    assert third.usage.input_tokens > second.usage.input_tokens > first.usage.input_tokens


@flow
async def responses_stream(client):
    async with opened(client.responses.stream(model=CHAT, input="Hello")) as stream:
        events = await every(stream)
        final = await go(stream.get_final_response())
    assert final.output_text == "Hello"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert not any((event.model_extra or {}).get("error") for event in events)  # trap 11
    async with opened(client.responses.stream(model=CHAT, input="Hello", max_output_tokens=2)) as stream:
        last = (await every(stream))[-1]
        with contextlib.suppress(RuntimeError):  # trap 10: the helper knows `completed` alone
            await go(stream.get_final_response())
    assert last.type == "response.incomplete"


@flow
async def responses_parse(client):
    done = await go(client.responses.parse(model=CHAT, input='{"word": "Hello"}', text_format=Greeting))
    assert done.output_parsed == Greeting(word="Hello")


@flow
async def files(client):
    file = await go(client.files.create(file=("tea.txt", TEA), purpose="assistants"))
    assert (await go(client.files.wait_for_processing(file.id))).status == "processed"
    assert (await go(client.files.retrieve(file.id))).filename == "tea.txt"
    assert (await go(client.files.content(file.id))).content == TEA
    others = [(await go(client.files.create(file=("a.txt", b"x"), purpose="user_data"))).id for _ in range(3)]
    listed = [one.id async for one in each(client.files.list(limit=1, order="asc"))]  # trap 1
    assert [one for one in listed if one in (file.id, *others)] == [file.id, *others]
    assert (await go(client.files.delete(file.id))).deleted is True
    async with refused(openai.NotFoundError, code="not_found"):
        await go(client.files.retrieve(file.id))


@flow
async def vector_stores(client):
    made = [(await go(client.vector_stores.create(name=f"store {n}"))).id for n in range(3)]
    listed = [one.id async for one in each(client.vector_stores.list(limit=1, order="asc"))]
    assert [one for one in listed if one in made] == made
    changed = await go(client.vector_stores.update(made[0], name="other", metadata={"a": "b"}))
    assert (changed.name, changed.metadata) == ("other", {"a": "b"})
    assert (await go(client.vector_stores.retrieve(made[0]))).name == "other"
    assert (await go(client.vector_stores.delete(made[0]))).deleted is True
    async with refused(openai.NotFoundError, code="not_found"):
        await go(client.vector_stores.retrieve(made[0]))


@flow
async def vector_store_files(client):
    store, ids = await a_store(client, tea=TEA, cats=SLEEP)
    files = client.vector_stores.files
    listed = [one.id async for one in each(files.list(store, limit=1, order="asc", filter="completed"))]
    assert sorted(listed) == sorted(ids.values())
    text = await every(files.content(ids["tea"], vector_store_id=store))
    assert "".join(part.text for part in text) == TEA.decode()
    await go(files.update(ids["tea"], vector_store_id=store, attributes={"about": "drink"}))
    wanted = {"type": "eq", "key": "about", "value": "drink"}
    found = await every(client.vector_stores.search(store, query="steeped", filters=wanted))
    assert [hit.file_id for hit in found] == [ids["tea"]]
    upload = await go(
        client.files.create(file=("more.txt", b"Iron melts at 1538 degrees."), purpose="assistants")
    )
    attached = await go(files.create_and_poll(upload.id, vector_store_id=store))
    assert (attached.status, (await go(files.retrieve(upload.id, vector_store_id=store))).id) == (
        "completed",
        upload.id,
    )
    assert (await go(files.delete(upload.id, vector_store_id=store))).deleted is True
    assert (await go(client.files.retrieve(upload.id))).id == upload.id


@flow
async def file_batches(client):
    """Trap 4: the helpers wait for as long as anything is in progress, and one bad file fails alone."""
    store = (await go(client.vector_stores.create())).id
    batches = client.vector_stores.file_batches
    good = [("a.txt", TEA), ("b.txt", SLEEP)]
    batch = await go(batches.upload_and_poll(store, files=[*good, ("c.png", PNG)]))
    assert (batch.file_counts.completed, batch.file_counts.failed) == (2, 1)
    files = [one async for one in each(batches.list_files(batch.id, vector_store_id=store, limit=1))]
    assert len(files) == 3
    (bad,) = [one for one in files if one.status == "failed"]
    assert bad.last_error.message
    ids = [one.id for one in files if one.status == "completed"]
    again = await go(batches.create_and_poll(store, file_ids=ids))
    assert (await go(batches.retrieve(again.id, vector_store_id=store))).status == "completed"
    assert (await go(batches.cancel(again.id, vector_store_id=store))).id == again.id


@flow
async def refusals(client):
    async with refused(openai.BadRequestError, code="invalid_value", param="temperature"):
        await go(client.chat.completions.create(model=CHAT, messages=HELLO, temperature=9))
    async with refused(openai.BadRequestError, message="vocabulary"):  # trap 13
        await go(client.chat.completions.create(model=CHAT, messages=HELLO, logit_bias={"9999999": 1}))
    async with refused(openai.NotFoundError, code="model_not_found", param="model"):
        await go(client.chat.completions.create(model="gpt-9", messages=HELLO))
    async with refused(openai.AuthenticationError, code="invalid_api_key"):
        await go(client.with_options(api_key="fsk_00000000_x").models.list())
    async with refused(openai.APIStatusError, code="method_not_allowed"):
        await go(client.models.delete(CHAT))


async def run(url: str, key: str, name: str, kind: str) -> None:
    """One flow through `sync` or `async`."""
    usual = {"base_url": f"{url}/v1", "api_key": key, "max_retries": 0, "timeout": 30.0}
    client: Any = openai.AsyncOpenAI(**usual) if kind == "async" else openai.OpenAI(**usual)
    try:
        await FLOWS[name](client)
    finally:
        await go(client.close())


if __name__ == "__main__":
    failed = {}
    for name in FLOWS:
        for kind in ("sync", "async"):
            try:
                asyncio.run(run(sys.argv[1], sys.argv[2], name, kind))
            except Exception as problem:
                failed[f"{name} {kind}"] = repr(problem)
    sys.stdout.write(json.dumps({"version": openai.__version__, "flows": 2 * len(FLOWS), "failed": failed}))
