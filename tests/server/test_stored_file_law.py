"""Stored-file law: programs of uploads, attachments, deletes and restarts against a dictionary.

Each text has a word of its own, which the keyword leg finds in its files alone: a search is then a set.
"""

import contextlib
import os

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = ["zorvane", "quilbex", "mirtalo", "drennic", "plovast"]
STORES = 2
# Which file or store is meant: a number, taken modulo how many there are.
numbers = st.integers(0, 9)
step = st.one_of(
    st.tuples(st.just("upload"), st.sampled_from(WORDS)),
    st.tuples(st.just("attach"), numbers, numbers, st.integers(0, 2)),
    st.tuples(st.just("batch"), numbers, st.lists(numbers, min_size=1, max_size=3)),
    st.tuples(st.just("describe"), numbers, numbers, st.integers(0, 2)),
    st.tuples(st.just("detach"), numbers, numbers),
    st.tuples(st.just("delete"), numbers),
    st.tuples(st.just("replace"), numbers, numbers, numbers),
    st.tuples(st.just("drop"), numbers),
    st.tuples(st.just("restart")),
)
programs = st.lists(step, min_size=6, max_size=16).map(
    lambda steps: [("upload", WORDS[0]), ("upload", WORDS[1]), ("attach", 0, 0, 1), *steps]
)


class World:
    """The server over HTTP and, beside it, what it should hold."""

    def __init__(self, serve, folder):
        self._serve, self._folder = serve, folder
        self._open = contextlib.ExitStack()
        self.files: dict[str, str] = {}  # id → its word
        self.stores: dict[str, dict[str, int]] = {}  # id → file id → its attribute n
        self.restart()
        for _ in range(STORES):
            self.stores[self.ask("POST", "/vector_stores", json={})["id"]] = {}

    def restart(self):
        self.close()
        # A search that a busy machine held up is no difference.
        self._url = self._open.enter_context(self._serve(folder=self._folder, search_seconds=300)).url
        self._client = self._open.enter_context(httpx.Client(base_url=f"{self._url}/v1", timeout=600))

    def close(self):
        self._open.close()

    def ask(self, method, path, **options):
        answer = self._client.request(method, path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pick(self, number, things):
        return sorted(things)[number % len(things)] if things else None

    def run(self, name, *values):
        match name, *values:
            case "upload", word:
                text = f"This page is about {word} and nothing else."
                form = {"file": ("page.txt", text.encode())}
                file = self.ask("POST", "/files", data={"purpose": "assistants"}, files=form)
                self.files[file["id"]] = word
            case "restart", *_:
                self.restart()
            case "delete", number:
                if file := self.pick(number, self.files):
                    self.ask("DELETE", f"/files/{file}")
                    del self.files[file]
                    for held in self.stores.values():
                        held.pop(file, None)
            case "drop", number:
                store = self.pick(number, self.stores)
                self.ask("DELETE", f"/vector_stores/{store}")
                del self.stores[store]
                self.stores[self.ask("POST", "/vector_stores", json={})["id"]] = {}
            case _:
                self._in_store(name, self.pick(values[0], self.stores), *values[1:])

    def _in_store(self, name, store, *values):
        held, path = self.stores[store], f"/vector_stores/{store}"
        match name, *values:
            case "attach", number, n:
                if file := self.pick(number, self.files):
                    body = {"file_id": file, "attributes": {"n": n}}
                    self.ask("POST", f"{path}/files", json=body)
                    held[file] = n
            case "batch", chosen:
                files = list(dict.fromkeys(self.pick(number, self.files) for number in chosen))
                if self.files:
                    self.ask("POST", f"{path}/file_batches", json={"file_ids": files})
                    held.update({file: held.get(file, -1) for file in files})
            case "describe", number, n:
                if file := self.pick(number, held):
                    self.ask("POST", f"{path}/files/{file}", json={"attributes": {"n": n}})
                    held[file] = n
            case "detach", number:
                if file := self.pick(number, held):
                    self.ask("DELETE", f"{path}/files/{file}")
                    del held[file]
            case "replace", old, new:
                old, new = self.pick(old, held), self.pick(new, set(self.files) - set(held))
                if old and new:
                    body = {"file_id": new, "fewshot": {"replaces": old}}
                    self.ask("POST", f"{path}/files", json=body)
                    self.settle()  # until then both may be found
                    del held[old]
                    held[new] = -1

    def settle(self):
        for store in self.stores:
            while self.ask("GET", f"/vector_stores/{store}")["status"] == "in_progress":
                pass

    def check(self, *, settled):
        """A search finds what was attached, and whether or not all is read yet, nothing that left."""
        if settled:
            self.settle()
        for store, held in self.stores.items():
            for word in WORDS:
                body = {"query": word, "search_mode": "keyword", "max_num_results": 50}
                right = {file for file in held if self.files[file] == word}
                found = self._search(store, body)
                assert found == right if settled else found <= right
                if settled and right:
                    body["filters"] = {"type": "in", "key": "n", "value": [0, 1]}
                    assert self._search(store, body) == {file for file in right if held[file] in (0, 1)}
            listed = self.ask("GET", f"/vector_stores/{store}/files?limit=100")["data"]
            assert {file["id"] for file in listed} == set(held)
            assert not settled or {file["status"] for file in listed} <= {"completed"}
        assert {file["id"] for file in self.ask("GET", "/files")["data"]} == set(self.files)

    def _search(self, store, body):
        hits = self.ask("POST", f"/vector_stores/{store}/search", json=body)["data"]
        assert len({hit["file_id"] for hit in hits}) == len(hits)
        return {hit["file_id"] for hit in hits}


def obey(serve, folder, program):
    world = World(serve, folder)
    try:
        for number, one in enumerate(program):
            world.run(*one)
            world.check(settled=number % 3 == 2)
        world.restart()
        world.check(settled=True)
    finally:
        world.close()


@pytest.fixture
def folders(tmp_path):
    count = 0

    def fresh():
        nonlocal count
        count += 1
        return tmp_path / str(count)

    return fresh


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs)
def test_the_stores_hold_what_was_put_in_and_not_taken_out(serve, folders, program):
    obey(serve, folders(), program)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(
    max_examples=int(os.environ.get("FEWSHOT_LAW_PROGRAMS", "500")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(program=programs)
def test_the_law_holds_for_many_programs(serve, folders, program):
    obey(serve, folders(), program)
