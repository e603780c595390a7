"""Responses through the unmodified openai client, over real sockets."""

import json

import httpx
import openai
import pytest
from pydantic import BaseModel

from server.wire.responses import LOGPROBS, RESULTS

ASK = "How long do cats sleep?"
SAID = "Cats sleep for thirteen hours a day [1], not [9]."
TOOL = {"type": "file_search", "vector_store_ids": ["facts"], "max_num_results": 2}


def test_an_answer_comes_as_items(serve):
    with serve(reply="Thirteen hours.") as running:
        done = running.client().responses.create(input=ASK, metadata={"k": "v"}, temperature=0.5)
    assert done.output_text == "Thirteen hours."
    assert (done.status, done.model, done.metadata) == ("completed", "echo", {"k": "v"})
    assert (done.temperature, done.tools, done.tool_choice, done.store) == (0.5, [], "auto", True)
    assert done.usage.output_tokens == len("Thirteen hours.")
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    assert done.id.startswith("resp_")
    assert done.fewshot["grounding"] == "not_requested"


def test_a_search_is_an_item_of_its_own_and_its_markers_are_annotations(serve):
    with serve(reply=SAID) as running:
        client = running.client()
        done = client.responses.create(input=ASK, tools=[TOOL], include=[RESULTS])
        again = client.responses.create(input=ASK, tools=[TOOL])
    search, message = done.output
    assert (search.type, search.status, search.queries) == ("file_search_call", "completed", [ASK])
    assert [result.fewshot["used"] for result in search.results] == [True, True]
    assert "Cats sleep" in search.results[0].text
    assert again.output[0].results is None
    (part,) = message.content
    assert part.text == "Cats sleep for thirteen hours a day [1], not ."
    (note,) = part.annotations
    assert (note.type, note.filename) == ("file_citation", "facts.jsonl")
    assert part.text[note.index : note.index + 3] == "[1]"
    assert note.fewshot["check"] == "span"
    assert done.fewshot["citations_dropped"] == 1
    assert done.tools[0].vector_store_ids == ["facts"]


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_the_stream_tells_it_in_order_and_ends_in_the_whole_response(serve, tools):
    with serve(reply=SAID) as running:
        client = running.client()
        with client.responses.stream(model="echo", input=ASK, tools=tools) as stream:
            events = list(stream)
            final = stream.get_final_response()
        raw = list(client.responses.create(input=ASK, tools=tools, stream=True))
        assert client.responses.retrieve(raw[-1].response.id).to_dict() == raw[-1].response.to_dict()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    searched = [kind for kind in kinds if "file_search" in kind]
    assert len(searched) == (3 if tools else 0)
    notes = [event for event in events if event.type == "response.output_text.annotation.added"]
    assert len(notes) == (1 if tools else 0)
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == final.output_text


class City(BaseModel):
    city: str


def test_an_answer_parses(serve):
    with serve(reply='{"city": "Paris"}') as running:
        done = running.client().responses.parse(input="Capital of France?", text_format=City)
    assert done.output_parsed == City(city="Paris")
    assert done.text.format.type == "json_schema"


def test_a_chain_of_three_is_one_conversation(serve):
    with serve() as running:
        client = running.client()
        first = client.responses.create(input="My name is Ada.", instructions="Be brief.")
        second = client.responses.create(input="Again?", previous_response_id=first.id)
        third = client.responses.create(input="And now?", previous_response_id=second.id)
        row = running.journalled(third.id)
        assert third.previous_response_id == second.id
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError) as broken:
            client.responses.create(input="Who?", previous_response_id=third.id)
    messages = [(message["role"], message["text"]) for message in json.loads(row["plans.messages"])]
    assert messages == [  # instructions are not inherited; the echo says what was said
        ("user", "My name is Ada."),
        ("assistant", "My name is Ada."),
        ("user", "Again?"),
        ("assistant", "Again?"),
        ("user", "And now?"),
    ]
    assert row["exposures.unit_kind"] == "conversation"
    assert broken.value.param == "previous_response_id"


def test_stored_responses_are_read_listed_and_deleted(serve):
    given = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": ASK}]},
    ]
    with serve(reply=SAID) as running:
        client = running.client()
        done = client.responses.create(input=given, tools=[TOOL])
        assert client.responses.retrieve(done.id).to_dict() == done.to_dict()
        whole = client.responses.retrieve(done.id, include=[RESULTS])
        assert len(whole.output[0].results) == 2
        listed = list(client.responses.input_items.list(done.id, limit=1))  # the client pages by itself
        assert [item.role for item in listed] == ["user", "developer"]
        oldest = client.responses.input_items.list(done.id, order="asc").data
        assert [item.content[0].text for item in oldest] == ["Be brief.", ASK]
        with pytest.raises(openai.BadRequestError):
            client.responses.input_items.list(done.id, after="msg_other")
        client.responses.delete(done.id)
        for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                call(done.id)


def test_what_is_not_stored_is_nowhere(serve):
    with serve(reply="A secret.") as running:
        client = running.client()
        done = client.responses.create(input="The secret?", store=False, metadata={"k": "secret"})
        row = running.journalled(done.id)
        assert done.store is False
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(done.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.create(input="More?", previous_response_id=done.id)
    assert "secret" not in repr(row).lower()
    assert row["replies.texts_sha256"]
    with serve(reply="x", retention_days=0) as running:
        assert running.client().responses.create(input="Hi").store is False
        with pytest.raises(openai.BadRequestError, match="keeps no responses"):
            running.client().responses.create(input="Hi", store=True)


def test_one_tenants_responses_are_not_there_for_another(serve):
    with serve(with_keys=True) as running:
        mine, theirs = (
            running.client(api_key=running.keys.create(tenant=tenant, scopes=["infer"]))
            for tenant in ("a", "b")
        )
        done = mine.responses.create(input="Hello")
        refused = []
        for response_id in (done.id, "resp_nope"):
            for call in (
                theirs.responses.retrieve,
                theirs.responses.delete,
                theirs.responses.input_items.list,
                lambda known: theirs.responses.create(input="x", previous_response_id=known),
            ):
                with pytest.raises(openai.NotFoundError) as foreign:
                    call(response_id)
                refused.append(foreign.value.body)
        assert refused[:4] == refused[4:]
        assert mine.responses.retrieve(done.id).id == done.id


def test_an_answer_cut_short_is_incomplete(serve):
    with serve(reply="on and on and on") as running:
        client = running.client()
        done = client.responses.create(input=ASK, max_output_tokens=5)
        with client.responses.stream(model="echo", input=ASK, max_output_tokens=5) as stream:
            last = list(stream)[-1]
    assert (done.status, done.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert done.output[0].status == "incomplete"
    assert (last.type, last.response.output_text) == ("response.incomplete", "on an")


def test_nothing_found_completes_with_an_empty_search(serve):
    nothing = {**TOOL, "ranking_options": {"score_threshold": 1.0}}
    with serve(reply="a guess") as running:
        done = running.client().responses.create(
            input=ASK, tools=[nothing], include=[RESULTS], extra_body={"fewshot": {"refusal_text": "No."}}
        )
    assert (done.status, done.output_text, done.output[0].results) == ("completed", "No.", [])
    assert done.usage.total_tokens == 0


def test_logprobs_of_the_tokens(serve):
    with serve(reply="ab") as running:
        done = running.client().responses.create(input=ASK, include=[LOGPROBS], top_logprobs=1)
    assert [token.token for token in done.output[0].content[0].logprobs] == ["a", "b"]


def test_a_template_goes_by_openais_words_for_one(serve):
    with serve(reply="x") as running:
        done = running.client().responses.create(
            input="a fine film", prompt={"id": "sentiment", "version": "1"}, max_output_tokens=3
        )
    assert done.fewshot["template"]["name"] == "sentiment"


def test_old_turns_go_only_where_that_was_asked_for(serve):
    turns = [{"role": role, "content": "word " * 20} for role in ("user", "assistant") * 4]
    turns.append({"role": "user", "content": "And now?"})
    with serve(reply="x", context_tokens=600) as running:
        client = running.client()
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(input=turns, max_output_tokens=16)
        done = client.responses.create(input=turns, max_output_tokens=16, truncation="auto")
        row = running.journalled(done.id)
    assert refused.value.code == "context_length_exceeded"
    kept = json.loads(row["plans.messages"])
    assert kept[-1]["text"] == "And now?"
    assert done.fewshot["dropped"]["turns"] == len(turns) - len(kept) > 0
    assert done.usage.input_tokens <= 600 - 16


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "file_search_call"}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
        ),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"include": ["unknown.thing"]}, "include[0]"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"prompt": {"id": "plain"}, "fewshot": {"template": "plain"}}, "prompt"),
        ({"tools": [TOOL], "fewshot": {"vector_store_ids": ["facts"]}}, "fewshot.vector_store_ids"),
        ({"max_tokens": 5}, "max_tokens"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(serve, body, param):
    with serve() as running:
        answer = httpx.post(f"{running.url}/v1/responses", json={"input": "Hi", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


def test_what_does_not_exist_here_says_so(serve):
    with serve() as running:
        cancelled = httpx.post(f"{running.url}/v1/responses/resp_1/cancel")
        counted = httpx.post(f"{running.url}/v1/responses/input_tokens", json={"input": "x"})
        streamed = httpx.get(f"{running.url}/v1/responses/resp_1?stream=true")
    assert (cancelled.status_code, counted.status_code, streamed.status_code) == (400, 404, 400)
    assert counted.json()["error"]["code"] == "unknown_url"
