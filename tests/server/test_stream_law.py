"""For any sequence of pieces, what the client adds up from the stream equals the whole body."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from server.calling import NO_CALLS, Calling, CallPart, Function
from server.records import Piece, Plan, Turn
from server.sse import MEDIA_TYPE, chat_frames, completion_frames
from server.wire.chat import chat_body
from server.wire.completions import completion_body
from tests.server.samples import (
    CITATION,
    SOURCE,
    chat_turn,
    chunks,
    client_hearing,
    collected,
    plan_of,
    reply_to,
    spoken,
    token,
)

WORDS = st.text(max_size=5) | st.sampled_from(
    ["é", "日本", "👩‍👩‍👧", '"\\\n', "data: [DONE]\n\n", "\u2028", "\x00"]
)


FUNCTIONS = Calling(functions=(Function(name="f"),))


@st.composite
def parts_of_calls(draw: st.DrawFn, begun: int) -> tuple[tuple[CallPart, ...], int]:
    """Some parts of calls, the first of each with its name, and how many calls have begun by then."""
    parts: list[CallPart] = []
    for arguments in draw(st.lists(WORDS, max_size=2)):
        if begun == 0 or draw(st.booleans()):
            parts.append(CallPart(begun, arguments, f"call_{draw(st.integers(0))}_{begun}", "f"))
            begun += 1
        elif arguments:
            parts.append(CallPart(begun - 1, arguments))
    return tuple(parts), begun


@st.composite
def conversations(draw: st.DrawFn, choices: int, logprobs: int | None, calling: bool = False) -> list[Piece]:
    """Interleaved pieces of every choice; text, tokens and parts of calls need not arrive together."""
    queues: list[list[Piece]] = []
    for index in range(choices):
        pieces = []
        begun = 0
        for text, tokens in draw(
            st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3)), min_size=1, max_size=5)
        ):
            known = tuple(token(word, -0.25, "x", "y") for word in tokens)
            calls, begun = draw(parts_of_calls(begun)) if calling else ((), 0)
            pieces.append(
                Piece(
                    index=index,
                    text=text,
                    tokens=tuple(range(len(tokens))),
                    logprobs=known if logprobs is not None else None,
                    calls=calls,
                )
            )
        last = pieces[-1]
        said = any(piece.text for piece in pieces)
        cited = (CITATION,) * (draw(st.integers(0, 2)) if said or not begun else 0)
        finish = draw(st.sampled_from(["tool_calls" if begun else "stop", "length"]))
        pieces[-1] = replace(last, finish=finish, citations=cited)
        queues.append(pieces)
    mixed = []
    while open_queues := [queue for queue in queues if queue]:
        mixed.append(draw(st.sampled_from(open_queues)).pop(0))
    return mixed


def told(completion: Any) -> dict[str, Any]:
    """A completion as the caller sees it; absent, null and empty lists read the same."""
    shown: dict[str, Any] = completion.to_dict()
    shown.pop("fewshot")  # of a stream the client keeps the first chunk's: what was known before the answer
    for choice in shown["choices"]:
        choice["message"] = {
            key: value for key, value in choice["message"].items() if value not in (None, [])
        }
        for call in choice["message"].get("tool_calls", ()):
            call.pop("index", None)  # of a stream the client keeps it
            call["function"].pop("parsed_arguments", None)
    return shown


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    n=st.integers(1, 3),
    logprobs=st.sampled_from([None, 0, 2]),
    metadata=st.booleans(),
    calling=st.booleans(),
)
def test_chat(data: st.DataObject, n: int, logprobs: int | None, metadata: bool, calling: bool):
    pieces = data.draw(conversations(n, logprobs, calling))
    turn = chat_turn(
        n=n,
        logprobs=logprobs,
        stream=True,
        include_usage=True,
        metadata={"k": "v"} if metadata else {},
        calling=FUNCTIONS if calling else NO_CALLS,
    )
    plan = plan_of(turn, sources=(SOURCE,))
    reply = reply_to(plan, pieces)
    frames = collected(chat_frames(plan, spoken(*pieces), lambda: reply, public_url="https://f"))
    whole = client_hearing(orjson.dumps(chat_body(reply, "https://f"))).chat.completions.create(
        model="m", messages=[]
    )
    with client_hearing(b"".join(frames), MEDIA_TYPE).chat.completions.stream(
        model="m", messages=[]
    ) as stream:
        # Not get_final_completion(): it raises on every answer that ended by length.
        streamed = stream.until_done().current_completion_snapshot
    assert told(streamed) == told(whole)
    assert chunks(frames)[-2]["fewshot"] == chat_body(reply, "https://f")["fewshot"]


def raw_turn(**fields: Any) -> Turn:
    return chat_turn(messages=(), **fields)


def added_up(heard: Sequence[Any], choices: int) -> list[dict[str, Any]]:
    """What a caller makes of completion chunks; the client has no helper for them."""
    columns = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    sums: list[dict[str, Any]] = [
        {"index": index, "text": "", "finish_reason": None, "logprobs": None} for index in range(choices)
    ]
    for chunk in heard:
        for choice in chunk.choices:
            total = sums[choice.index]
            total["text"] += choice.text
            total["finish_reason"] = choice.finish_reason or total["finish_reason"]
            if choice.logprobs is not None:
                total["logprobs"] = total["logprobs"] or {column: [] for column in columns}
                for column in columns:
                    total["logprobs"][column] += getattr(choice.logprobs, column)
    return sums


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    n=st.integers(1, 2),
    logprobs=st.sampled_from([None, 0, 2]),
    echo=st.booleans(),
    prompts=st.lists(st.sampled_from(["Once", "dès que 日"]), min_size=1, max_size=2),
)
def test_completions(data: st.DataObject, n: int, logprobs: int | None, echo: bool, prompts: list[str]):
    count = n * len(prompts)
    pieces = data.draw(conversations(count, logprobs))
    turn = raw_turn(
        prompts=tuple(prompts), n=n, logprobs=logprobs, echo=echo, stream=True, include_usage=True
    )
    plan: Plan = plan_of(turn)
    reply = reply_to(plan, pieces)
    frames = collected(completion_frames(plan, spoken(*pieces), lambda: reply))
    body = completion_body(reply)
    client = client_hearing(b"".join(frames), MEDIA_TYPE)
    heard = list(client.completions.create(model="m", prompt="", stream=True))
    assert added_up(heard, count) == body["choices"]
    assert heard[-1].usage.to_dict() == body["usage"]
    assert chunks(frames)[-2]["fewshot"] == body["fewshot"]
    assert "fewshot" in chunks(frames)[0]
