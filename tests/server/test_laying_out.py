"""Where the prompt of a search is laid out, and what counts as an error of the search."""

import threading

import httpx
import pytest

from server.echo_decoder import EchoDecoder, EchoTokenizer

STORE = [{"type": "file_search", "vector_store_ids": ["facts"], "max_num_results": 2}]
QUESTION = "How long do cats sleep?"


class Placed(EchoTokenizer):
    """Remembers on which threads it read what a document said."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def chat(self, messages, **options):
        if "<passage [1]>" in messages[-1].text and QUESTION in messages[-1].text:
            self.threads.append(threading.current_thread().name)
        return super().chat(messages, **options)


class PlacedDecoder(EchoDecoder):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.placed = Placed()

    @property
    def tokenizer(self) -> Placed:
        return self.placed


def asked(running, **more):
    body = {"messages": [{"role": "user", "content": QUESTION}], "tools": STORE, **more}
    return httpx.post(f"{running.url}/v1/chat/completions", json={"model": "echo", **body}, timeout=30)


def counted(running, name):
    said = httpx.get(f"{running.url}/metrics").text.splitlines()
    return [float(line.rpartition(" ")[2]) for line in said if line.startswith(name)]


LONG = [{"role": "system", "content": "Be brief. " * 400}, {"role": "user", "content": QUESTION}]


@pytest.mark.parametrize(
    ("more", "at_once"), [({}, True), ({"fewshot": {"demos": 2}}, False), ({"messages": LONG}, False)]
)
def test_the_thread_that_searched_lays_out_where_nothing_is_picked_or_read_ahead(serve, more, at_once):
    decoder = PlacedDecoder(reply="Long. [1]")

    async def opened():
        return decoder

    with serve(open_decoder=opened) as running:
        said = asked(running, **more).json()
    assert said["fewshot"]["sources"]
    assert decoder.placed.threads
    assert {name.startswith("search") for name in decoder.placed.threads} == {at_once}


def test_what_a_layout_refuses_is_no_error_of_the_search(serve):
    with serve(context_tokens=300) as running:
        refused = asked(running, max_tokens=8)
        assert refused.status_code == 400
        assert counted(running, "fewshot_retrieval_errors_total") == [0.0]
        assert counted(running, 'fewshot_retrieval_duration_seconds_count{leg="all"}') == [1.0]
        missing = [{**STORE[0], "vector_store_ids": ["nothing"]}]
        assert asked(running, tools=missing).status_code == 404
        assert counted(running, "fewshot_retrieval_errors_total") == [1.0]
        assert counted(running, 'fewshot_retrieval_duration_seconds_count{leg="all"}') == [2.0]
