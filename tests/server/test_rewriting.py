"""Follow-up questions on their way to the search."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.records import Message
from prompts.templates import Library
from server.echo_decoder import EchoDecoder
from server.rewriting import LONGEST_QUERY, TEMPLATE, Rewriter, joined

LIBRARY = Library.load()
TALK = (
    Message("user", "Who wrote Dracula?"),
    Message("assistant", "Bram Stoker [1], in 1897 [2, 3]."),
    Message("user", "And Frankenstein?"),
    Message("assistant", "Mary Shelley."),
)
STORE = {"vector_store_ids": ["facts"]}


def rewriter(seconds=5.0, **echo):
    return Rewriter(EchoDecoder(**echo), LIBRARY.get(TEMPLATE), seconds)


def query(way="model", question="Where was she born?", history=TALK, **options):
    return asyncio.run(rewriter(**options).query(way, question, history, "chatcmpl-1"))


def test_the_model_s_words_are_searched_for():
    found = query(reply="Where was Mary Shelley born?")
    assert (found.text, found.rewrite) == ("Where was Mary Shelley born?", "model")
    assert found.tokens > len(found.text)  # its prompt counts too


def test_the_model_reads_the_talk_without_its_markers():
    prompt = rewriter()._prompt("Where was she born?", TALK, lambda _: 1).messages[-1].text
    assert "User: Who wrote Dracula?\nAssistant: Bram Stoker, in 1897.\nUser: And Frankenstein?" in prompt
    assert prompt.index("Mary Shelley") < prompt.index("Where was she born?")


def test_old_turns_give_way_where_the_context_is_small():
    long = tuple(Message(role, f"{at} " + "word " * 60) for at in range(4) for role in ("user", "assistant"))
    small = rewriter(context_tokens=2_600)
    sizes = []

    def count(messages):
        sizes.append(sum(len(message.text) for message in messages))
        return sizes[-1]

    prompt = small._prompt("Why?", long, count).messages[-1].text
    assert "User: 0 word" not in prompt
    assert "Assistant: 3 word" in prompt
    assert prompt.endswith("understandable alone:")
    assert len(sizes) > 1


@pytest.mark.parametrize(
    "broken",
    [
        {"reply": ""},
        {"reply": "x" * 65},  # cut off
        {"reply": "y", "first_seconds": 5.0, "seconds": 0.05},
        {"reply": "y", "context_tokens": 128},  # not even the instruction fits
    ],
    ids=["nothing", "endless", "slow", "no-room"],
)
def test_a_rewrite_that_fails_leaves_the_question_and_says_so(broken):
    found = query(**broken)
    assert (found.text, found.rewrite) == ("Where was she born?", "failed")


def test_a_question_without_a_talk_before_it_is_itself():
    for way in ("off", "join", "model"):
        assert query(way, history=()).rewrite == "off"
        assert query(way, history=TALK[1:2]).text == "Where was she born?"
    assert query("off").text == "Where was she born?"


@given(
    said=st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text(max_size=20))),
    turns=st.integers(1, 5),
)
def test_turns_are_joined_in_their_order_the_question_last(said, turns):
    history = [Message(role, text) for role, text in said]
    users = [text for role, text in said if role == "user"]
    parts = [*users[len(users) - min(turns - 1, len(users)) :], "Why?"]
    assert joined("Why?", history, turns) == "\n".join(parts)


def asked(*texts):
    roles = ("user", "assistant") * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def test_the_queries_are_told_and_journalled(serve):
    talk = asked("Tell me about cats.", "They hunt.", "How long do they sleep?")
    with serve(rewrite="join") as running:
        client = running.client()
        on, off = (
            client.chat.completions.create(
                model="echo", messages=talk, extra_body={"fewshot": {**STORE, "rewrite_query": wanted}}
            )
            for wanted in (None, False)
        )
        response = client.responses.create(input=talk, tools=[{"type": "file_search", **STORE}])
        row = running.journalled(on.id)
    both = "Tell me about cats.\nHow long do they sleep?"
    assert (on.fewshot["queries"], on.fewshot["rewrite"]) == ([both], "join")
    assert (off.fewshot["queries"], off.fewshot["rewrite"]) == (["How long do they sleep?"], "off")
    assert response.output[0].queries == [both]
    assert (json.loads(row["plans.queries"]), row["plans.rewrite"]) == ([both], "join")


def test_who_asks_for_it_gets_the_model_s_where_the_server_does_nothing_itself(serve):
    talk = asked("Tell me about cats.", "They hunt.", "How long do they sleep?")
    with serve(reply="How long do cats sleep?") as running:
        client = running.client()
        wanted = {"fewshot": {**STORE, "rewrite_query": True}}
        done = client.chat.completions.create(model="echo", messages=talk, extra_body=wanted)
        plain = client.chat.completions.create(model="echo", messages=talk, extra_body={"fewshot": STORE})
        unsearched = client.chat.completions.create(model="echo", messages=talk)
    assert (done.fewshot["queries"], done.fewshot["rewrite"]) == (["How long do cats sleep?"], "model")
    assert plain.fewshot["rewrite"] == "off"
    assert (unsearched.fewshot["queries"], unsearched.fewshot["rewrite"]) == ([], None)
    assert done.usage.prompt_tokens == plain.usage.prompt_tokens  # of the answer alone


def test_a_failed_rewrite_is_told_and_the_question_searched(serve):
    with serve(reply="z" * (LONGEST_QUERY + 1)) as running:
        done = running.client().chat.completions.create(
            model="echo",
            messages=asked("Tell me about cats.", "They hunt.", "How long do they sleep?"),
            extra_body={"fewshot": {**STORE, "rewrite_query": True}},
        )
    assert (done.fewshot["queries"], done.fewshot["rewrite"]) == (["How long do they sleep?"], "failed")
    assert done.fewshot["grounding"] == "grounded"
