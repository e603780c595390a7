"""/mcp through the SDK's own client over streamable HTTP, in the protocol of today and in the older one."""

import asyncio
import contextlib
import json
import shutil
import time

import httpx
import httpx2
import jsonschema
import pytest
import sqlalchemy as sa
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from server.admission import Admission
from server.aliases import Alias
from server.quotas import Rates
from server.schema import exposures

MODES = ["auto", "legacy"]
CATS = "Cats sleep for thirteen hours a day [1]."
TITLES = {"Cats", "Tea", "Iron"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPT = {"accept": "application/json, text/event-stream"}


@contextlib.asynccontextmanager
async def connected(running, mode="auto", key=None):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(f"{running.url}/mcp", http_client=http)
        async with Client(transport, mode=mode, read_timeout_seconds=20) as client:
            yield client


def talk(running, work, mode="auto", key=None):
    """The result of `work(client)`."""

    async def run():
        async with connected(running, mode, key) as client:
            return await work(client)

    return asyncio.run(run())


def call(running, tool, mode="auto", key=None, **arguments):
    return talk(running, lambda client: client.call_tool(tool, arguments), mode, key)


@pytest.mark.parametrize("mode", MODES)
def test_the_tools_say_what_they_take_and_give_and_what_there_is_to_search(serve, mode):
    with serve(aliases=[Alias(name="helper", model="echo", vector_stores=("facts",))]) as running:
        tools = {tool.name: tool for tool in talk(running, lambda client: client.list_tools(), mode).tools}
    assert set(tools) == {"search", "ask"}
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert "- facts:" in tool.description
        assert tool.annotations.read_only_hint
    assert "- helper: an alias, which searches facts" in tools["ask"].description
    assert set(tools["search"].input_schema["required"]) == {"query", "vector_store_ids"}
    assert set(tools["ask"].input_schema["required"]) == {"question"}


@pytest.mark.parametrize("mode", MODES)
def test_search_finds_passages_with_their_places(serve, mode):
    with serve() as running:

        async def work(client):
            schema = (await client.list_tools()).tools[0].output_schema
            return schema, await client.call_tool(
                "search", {"query": "How long do cats sleep?", "vector_store_ids": ["facts"]}
            )

        schema, result = talk(running, work, mode)
    assert not result.is_error
    jsonschema.validate(result.structured_content, schema)
    results = result.structured_content["results"]
    assert {one["title"] for one in results} == TITLES
    assert [one["n"] for one in results] == [1, 2, 3]
    assert results[0]["title"] == "Cats"
    assert results[0]["text"] in result.content[0].text
    assert results[0]["char_end"] - results[0]["char_start"] == len(results[0]["text"])


def test_search_filters_by_attributes(serve):
    with serve() as running:
        hot = {"type": "gt", "key": "degrees", "value": 100}
        found = call(running, "search", query="degrees", vector_store_ids=["facts"], filters=hot)
        assert [one["title"] for one in found.structured_content["results"]] == ["Iron"]
        bad = call(
            running,
            "search",
            query="degrees",
            vector_store_ids=["facts"],
            filters={"type": "near", "key": "a", "value": 1},
        )
        assert bad.is_error
        assert "invalid_filter" in bad.content[0].text


@pytest.mark.parametrize("mode", MODES)
def test_ask_answers_with_verified_citations(serve, mode):
    with serve(reply=CATS) as running:

        async def work(client):
            schema = (await client.list_tools()).tools[1].output_schema
            return schema, await client.call_tool(
                "ask", {"question": "How long do cats sleep?", "vector_store_ids": ["facts"]}
            )

        schema, result = talk(running, work, mode)
        told = result.structured_content
        jsonschema.validate(told, schema)
        assert (told["answer"], told["grounding"], told["model"]) == (CATS, "grounded", "echo")
        (citation,) = told["citations"]
        assert (citation["n"], citation["check"]) == (1, "span")
        assert "thirteen hours a day" in citation["quote"]
        assert citation["quote"] in told["sources"][0]["text"]
        assert {source["title"] for source in told["sources"]} == TITLES
        assert result.content[0].text.startswith(CATS)
        assert "[1] Cats" in result.content[0].text
        row = running.journalled(told["id"])  # as any answer: feedback and replay know it
        assert row["replies.outcome"] == "stop"
        assert row["plans.template"] == "grounded@1"


def test_ask_takes_an_alias_and_heeds_its_locks(serve):
    bound = Alias(
        name="helper", model="echo", vector_stores=("facts",), lock=frozenset({"vector_stores"}), max_tokens=7
    )
    with serve(aliases=[bound], reply=CATS) as running:
        told = call(running, "ask", question="Cats?", model="helper").structured_content
        assert (told["model"], told["grounding"], told["answer"]) == ("helper", "grounded", "Cats sl")
        assert told["finish_reason"] == "length"
        locked = call(running, "ask", question="Cats?", model="helper", vector_store_ids=["facts"])
        assert locked.is_error
        assert "fixed by the alias 'helper'" in locked.content[0].text


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {"query": "a"}, "'vector_store_ids' is required"),
        ("search", {"query": "", "vector_store_ids": ["facts"]}, "'query'"),
        ("search", {"query": "a", "vector_store_ids": []}, "'vector_store_ids'"),
        ("search", {"query": "a", "vector_store_ids": ["facts"], "max_num_results": 51}, "'max_num_results'"),
        ("search", {"query": "a", "vector_store_ids": ["nowhere"]}, "nowhere"),
        ("search", {"query": 5, "vector_store_ids": ["facts"]}, "'query'"),
        ("ask", {"question": "a", "temperature": 2}, "'temperature'"),
        ("ask", {"question": "a", "max_tokens": True}, "'max_tokens'"),
        ("ask", {"question": "a", "model": "gpt-9"}, "the model 'gpt-9' does not exist"),
    ],
)
def test_what_cannot_be_honoured_is_a_result_that_names_it(serve, tool, arguments, said):
    with serve() as running:
        result = call(running, tool, **arguments)
        assert result.is_error
        assert said in result.content[0].text


def raw(running, tool, arguments):
    """A call whose JSON no client would send, in the protocol of today."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {**ACCEPT, **MODERN, "content-type": "application/json", "mcp-name": tool}
    answer = httpx.post(f"{running.url}/mcp", content=json.dumps(body), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def test_text_that_is_none_is_refused(serve):
    with serve() as running:
        for question in ("\ud800", float("nan"), 10**400):
            result = raw(running, "ask", {"question": question})
            assert result["isError"]
            assert "invalid_value" in result["content"][0]["text"]


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_that_does_not_exist_is_an_error_of_the_protocol(serve, mode):
    async def work(client):
        with pytest.raises(MCPError, match="there is no tool 'destroy'"):
            await client.call_tool("destroy", {})

    with serve() as running:
        talk(running, work, mode)


def leaves(problem):
    if not isinstance(problem, BaseExceptionGroup):
        return [problem]
    return [leaf for inner in problem.exceptions for leaf in leaves(inner)]


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_key_gets_nowhere(serve, mode):
    with serve(with_keys=True) as running:
        poor = running.keys.create(tenant="t", scopes=["files"])
        for key in ("fsk_00000000_wrong", poor, None):
            with pytest.raises(BaseException) as refused:  # noqa: PT011 - in groups of groups
                talk(running, lambda client: client.list_tools(), mode, key)
            assert {type(problem) for problem in leaves(refused.value)} == {MCPError}
        assert running.decoder.running == 0
        status = [
            httpx.post(f"{running.url}/mcp", json=INITIALIZE, headers={**ACCEPT, **more})
            for more in ({}, {"authorization": "Bearer no"}, {"authorization": f"Bearer {poor}"})
        ]
        assert [answer.status_code for answer in status] == [401, 401, 403]
        assert status[0].headers["www-authenticate"] == "Bearer"
        assert status[0].json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("mode", MODES)
def test_another_tenant_s_store_is_not_there(serve, mode, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    with serve(folder=folder, with_keys=True) as running:
        acme, other = (
            running.keys.create(tenant=name, scopes=["infer", "files"]) for name in ("acme", "other")
        )
        client = running.client(api_key=acme)
        store = client.vector_stores.create(name="plans", description="zyxomma").id
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store, file=("plan.txt", b"The zyxomma hides in the vault.")
        )
        assert file.status == "completed"
        owner = call(running, "search", mode, acme, query="zyxomma", vector_store_ids=[store])
        assert "zyxomma" in owner.content[0].text
        absent = "vs_" + "0" * 26
        for tool, question in (("search", "query"), ("ask", "question")):
            foreign, nobody = (
                call(running, tool, mode, other, **{question: "zyxomma?", "vector_store_ids": [one]})
                for one in (store, absent)
            )
            assert foreign.is_error
            assert foreign.content[0].text.replace(store, absent) == nobody.content[0].text
        seen = talk(running, lambda client: client.list_tools(), mode, other).model_dump_json()
        assert store not in seen
        assert "zyxomma" not in seen
        own = talk(running, lambda client: client.list_tools(), mode, acme).model_dump_json()
        assert "zyxomma" in own


async def until(happens, seconds=5.0):
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < seconds, "it did not happen"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_call_frees_its_place_at_once(serve, mode):
    with serve(reply="x" * 400, interval_seconds=0.1) as running:

        async def run():
            async with connected(running, mode) as client:
                arguments = {"question": "Tell me everything", "vector_store_ids": ["facts"]}
                asking = asyncio.create_task(client.call_tool("ask", arguments))
                await until(lambda: running.decoder.running == 1)
                asking.cancel()
                took = await until(lambda: running.decoder.running == 0)
                await until(lambda: running.parts.admission.running == 0)
                # The connection goes on.
                assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "ask"}
                return took

        assert asyncio.run(run()) < 1
        assert [row["replies.outcome"] for row in rows(running)] == ["cancelled"]


@pytest.mark.parametrize("mode", MODES)
def test_a_caller_who_hangs_up_frees_the_place_too(serve, mode):
    """Without a word: the connection is simply gone. And a session that is left open holds up no shutdown."""
    with serve(reply="x" * 400, interval_seconds=0.1) as running:

        async def run():
            async with httpx.AsyncClient() as http:
                headers, params = MODERN, {"_meta": META}
                if mode == "legacy":
                    opened = await http.post(f"{running.url}/mcp", json=INITIALIZE, headers=ACCEPT)
                    session = opened.headers["mcp-session-id"]
                    headers = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
                    params = {}
                params |= {"name": "ask", "arguments": {"question": "a", "vector_store_ids": ["facts"]}}
                body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
                asking = asyncio.create_task(
                    http.post(
                        f"{running.url}/mcp", json=body, headers={**ACCEPT, **headers, "mcp-name": "ask"}
                    )
                )
                await until(lambda: running.decoder.running == 1)
                asking.cancel()
                return await until(lambda: running.decoder.running == 0)

        assert asyncio.run(run()) < 1
        asyncio.run(until(lambda: running.parts.admission.running == 0))
        assert [row["replies.outcome"] for row in rows(running)] == ["cancelled"]
        ends = time.monotonic()
    assert time.monotonic() - ends < 5


def rows(running):
    """Of every turn there was."""
    running.parts.journal.wait()
    with running.parts.journal._engine.connect() as connection:
        turns = connection.execute(sa.select(exposures.c.turn)).scalars().all()
    return [running.journalled(turn) for turn in turns]


def test_calls_wait_and_are_refused_like_any_request(serve):
    admission = Admission(running=1, queue=0, deadline_seconds=30)
    with serve(admission=admission, reply="x" * 400, interval_seconds=0.1) as running:

        async def run():
            async with connected(running) as first, connected(running) as second:
                asking = asyncio.create_task(first.call_tool("ask", {"question": "a"}))
                await until(lambda: running.decoder.running == 1)
                refused = await second.call_tool("ask", {"question": "b"})
                asking.cancel()
                return refused

        refused = asyncio.run(run())
        assert refused.is_error
        assert "queue_full" in refused.content[0].text
        assert "Try again in" in refused.content[0].text


def test_the_key_s_limits_hold(serve):
    with serve(with_keys=True) as running:
        key = running.keys.create(tenant="t", scopes=["infer"], rates=Rates(requests_per_minute=2))
        told = [call(running, "ask", key=key, question="Hello") for _ in range(3)]
        assert [one.is_error for one in told] == [False, False, True]
        assert "rate_limit_exceeded" in told[2].content[0].text


def test_a_session_answers_the_key_that_opened_it_alone(serve):
    with serve(with_keys=True) as running:
        mine, theirs = (
            {"authorization": f"Bearer {running.keys.create(tenant=name, scopes=['infer'])}"}
            for name in ("a", "b")
        )
        url = f"{running.url}/mcp"
        opened = httpx.post(url, json=INITIALIZE, headers={**ACCEPT, **mine})
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        told = [
            httpx.post(url, json=listing, headers={**ACCEPT, **session, **key}).status_code
            for key in (mine, theirs)
        ]
        assert told == [200, 404]
        assert httpx.delete(url, headers={**session, **theirs}).status_code == 404
        assert httpx.delete(url, headers={**session, **mine}).status_code == 200
        assert httpx.post(url, json=listing, headers={**ACCEPT, **session, **mine}).status_code == 404


def test_there_is_no_stream_to_open_and_no_body_too_large(serve):
    with serve() as running:
        url = f"{running.url}/mcp"
        get = httpx.get(url, headers={"accept": "text/event-stream"})
        assert (get.status_code, get.headers["allow"]) == (405, "DELETE, POST")
        large = httpx.post(url, content=b"x" * (4 * 2**20 + 1), headers=ACCEPT)
        assert large.status_code == 413
        elsewhere = httpx.post(url, json=INITIALIZE, headers={**ACCEPT, "host": "evil.example"})
        assert elsewhere.status_code == 400
