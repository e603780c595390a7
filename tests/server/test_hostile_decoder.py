"""A model that forges markers in every way, heard over every route: none of them reaches a caller."""

import random
import re

import httpx
import pytest

from server.echo_decoder import EchoDecoder

ASK = "How long is green tea steeped?"
STORE = {"vector_store_ids": ["facts"]}
WHOLE = re.compile(r"\[\s*\d{1,3}(?:\s*,\s*\d{1,3})*\s*\]")
FORGED = [  # what is said, at the markers' edges and beyond
    "Wrong [9].",
    "Nought [0] and far [999].",
    "Mixed [1, 9, 2].",
    "Nested [9[7]] and [[9]] and [1[9]2].",
    "Deep [[[[[9]]]]] and [9[8[7[6]]]].",
    "Healed [9[9]9] and [[9]9].",
    "Left open [9",
    "Closed late [9\n] and [ 9 ] and [9,,8].",
    "Unicode [９] and [٣] and [1９].",
    "A year [2024] and a list [a] and [] stay.",
    "Links [9](https://evil.example) and [1](x).",
    "Many [" + ", ".join(map(str, range(3, 60))) + "].",
]


class Hostile(EchoDecoder):
    """Says `says`, a character at a time, so that every marker is split everywhere."""

    says = ""

    def decode(self, *asked, **options):
        self._reply = self.says or "x"
        return super().decode(*asked, **options)


@pytest.fixture
def hostile(serve):
    decoder = Hostile()

    async def open_decoder():
        return decoder

    with serve(open_decoder=open_decoder) as running:
        while running.parts.engine.state == "starting":
            pass
        yield running, decoder


def heard(running):
    """(text, sources that were used, citations, dropped) by each way to ask."""
    client = running.client()
    messages = [{"role": "user", "content": ASK}]
    chat = client.chat.completions.create(model="echo", messages=messages, extra_body={"fewshot": STORE})
    yield chat.choices[0].message.content, chat.fewshot
    asked = {"model": "echo", "messages": messages, "fewshot": STORE, "stream": True}
    text, last = "", None
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=asked, timeout=20) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                chunk = httpx.Response(200, content=line[6:]).json()
                text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                last = chunk.get("fewshot") or last
    yield text, last
    done = client.completions.create(model="echo", prompt=ASK, max_tokens=400, extra_body={"fewshot": STORE})
    yield done.choices[0].text, done.fewshot
    tools = [{"type": "file_search", **STORE}]
    answer = client.responses.create(input=ASK, tools=tools)
    yield answer.output_text, answer.fewshot


def check(text, fewshot):
    used = {source["n"] for source in fewshot["sources"] if source["used"]}
    assert used
    for marker in WHOLE.findall(text):
        assert {int(number) for number in re.findall(r"\d+", marker)} <= used, (text, marker)
    assert {citation["n"] for citation in fewshot["citations"]} <= used
    for citation in fewshot["citations"]:
        assert str(citation["n"]) in text[citation["marker_start"] : citation["marker_end"]]


@pytest.mark.parametrize("says", FORGED)
def test_no_forged_marker_reaches_a_caller_by_any_route(hostile, says):
    running, decoder = hostile
    decoder.says = says
    shown = list(heard(running))
    for text, fewshot in shown:
        check(text, fewshot)
    assert len({text for text, _ in shown}) == 1
    assert len({fewshot["citations_dropped"] for _, fewshot in shown}) == 1


def test_of_many_random_forgeries_none_comes_through(hostile):
    running, decoder = hostile
    chance = random.Random(7)
    pieces = ["[", "]", ",", " ", "1", "2", "3", "9", "12", "[1]", "[9]", "a", ". ", "\n", "(", "x)"]
    dropped = 0
    for _ in range(40):
        decoder.says = "".join(chance.choices(pieces, k=40))
        body = {"model": "echo", "messages": [{"role": "user", "content": ASK}], "fewshot": STORE}
        answer = httpx.post(f"{running.url}/v1/chat/completions", json=body).json()
        check(answer["choices"][0]["message"]["content"], answer["fewshot"])
        dropped += answer["fewshot"]["citations_dropped"]
    assert dropped > 40
