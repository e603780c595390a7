"""Vector stores over HTTP, by the unmodified client: attach, wait, search, change, delete, restart."""

import threading

import openai
import pytest

from indexer.attachments import Wish, attach
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.ownership import owned
from indexer.reading.reader import read

TEA = b"Green tea is steeped at eighty degrees for two minutes."
CATS = b"Cats sleep for thirteen hours a day and hunt at dusk."
ROWS = b"""{"id": "a", "text": "Iron melts at 1538 degrees.", "degrees": 1538}
{"id": "b", "text": "Tin melts at 232 degrees.", "degrees": 232}
"""


def upload(client, data, name="a.txt"):
    return client.files.create(file=(name, data), purpose="assistants").id


def found(client, store, query, **options):
    return [hit.file_id for hit in client.vector_stores.search(store, query=query, **options)]


def test_a_file_is_searchable_when_it_is_completed(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create(name="facts", metadata={"team": "a"})
        assert (store.name, store.status, store.metadata) == ("facts", "completed", {"team": "a"})
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("tea.txt", TEA), attributes={"kind": "drink", "year": 2024}
        )
        assert (file.status, file.last_error) == ("completed", None)
        assert file.attributes == {"kind": "drink", "year": 2024}
        assert file.chunking_strategy.static.max_chunk_size_tokens > 0
        (hit,) = client.vector_stores.search(store.id, query="green tea")
        assert (hit.file_id, hit.filename) == (file.id, "tea.txt")
        assert hit.content[0].text == TEA.decode()
        assert hit.attributes == {"kind": "drink", "year": 2024}
        text = "".join(
            part.text for part in client.vector_stores.files.content(file.id, vector_store_id=store.id)
        )
        assert text[hit.fewshot["char_start"] : hit.fewshot["char_end"]] == hit.content[0].text
        counts = client.vector_stores.retrieve(store.id).file_counts
        assert (counts.completed, counts.total) == (1, 1)


def test_new_files_are_counted_before_the_answer(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        ids = [upload(client, b"text number %d" % number) for number in range(5)]
        store = client.vector_stores.create(file_ids=ids)
        assert (store.status, store.file_counts.in_progress, store.file_counts.total) == ("in_progress", 5, 5)


def test_a_batch_with_a_bad_file_says_which_and_why(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create()
        assert store.name
        ids = [
            upload(client, TEA),
            upload(client, b"\x89PNG\r\n\x1a\n" + bytes(64), "a.png"),
            upload(client, CATS),
        ]
        batch = client.vector_stores.file_batches.create_and_poll(vector_store_id=store.id, file_ids=ids)
        assert (batch.status, batch.object) == ("completed", "vector_store.files_batch")
        assert (batch.file_counts.completed, batch.file_counts.failed) == (2, 1)
        files = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
        assert sorted(file.id for file in files) == sorted(ids)
        (failed,) = client.vector_stores.files.list(store.id, filter="failed")
        assert failed.id == ids[1]
        assert failed.last_error.code in ("unsupported_file", "invalid_file")
        only = client.vector_stores.file_batches.create_and_poll(vector_store_id=store.id, file_ids=[ids[1]])
        assert only.status == "failed"


def test_attributes_change_without_reading_again(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        tea = client.vector_stores.files.upload_and_poll(
            vector_store_id=store, file=("t.txt", TEA), attributes={"n": 1}
        ).id
        rows = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("r.jsonl", ROWS)).id
        one = {"type": "eq", "key": "n", "value": 1}
        assert found(client, store, "degrees", filters=one) == [tea]
        client.vector_stores.files.update(tea, vector_store_id=store, attributes={"n": 2})
        assert found(client, store, "degrees", filters=one) == []
        client.vector_stores.files.update(rows, vector_store_id=store, attributes={"n": 1})
        assert found(client, store, "degrees", filters=one) == [rows, rows]
        hot = {"type": "gt", "key": "degrees", "value": 1000}  # a row's own attributes stay
        (hit,) = client.vector_stores.search(store, query="melts", filters=hot)
        assert hit.attributes == {"degrees": 1538, "n": 1}
        cleared = client.vector_stores.files.update(tea, vector_store_id=store, attributes=None)
        assert cleared.attributes == {}


def test_attaching_again_changes_what_is_said(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        files = client.vector_stores.files
        file = upload(client, (TEA + b" ") * 200)
        before = files.create_and_poll(file, vector_store_id=store)
        same = files.create(store, file_id=file, attributes={"x": True})
        assert (same.status, same.attributes) == ("completed", {"x": True})
        static = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
        again = files.create_and_poll(file, vector_store_id=store, chunking_strategy=static)
        assert again.chunking_strategy.static.max_chunk_size_tokens == 100
        assert again.fewshot["chunks"] != before.fewshot["chunks"]
        assert again.attributes == {"x": True}
        assert {hit.file_id for hit in client.vector_stores.search(store, query="green tea")} == {file}


def test_equal_texts_are_two_hits_and_one_file_stands_in_two_stores(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        ids = [upload(client, TEA, "a.txt"), upload(client, TEA, "b.txt")]
        stores = [client.vector_stores.create().id for _ in range(2)]
        for store in stores:
            client.vector_stores.file_batches.create_and_poll(vector_store_id=store, file_ids=ids)
            assert sorted(found(client, store, "green tea")) == sorted(ids)
        client.vector_stores.files.delete(ids[0], vector_store_id=stores[0])
        assert found(client, stores[0], "green tea") == [ids[1]]
        assert client.files.retrieve(ids[0]).id == ids[0]
        client.files.delete(ids[1])
        assert [found(client, store, "green tea") for store in stores] == [[], [ids[0]]]
        assert client.vector_stores.retrieve(stores[0]).file_counts.total == 0


def test_a_newer_file_takes_the_place_of_an_older(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        old = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("t.txt", TEA)).id
        new = upload(client, TEA + b" Or three.")
        client.vector_stores.files.create(store, file_id=new, extra_body={"fewshot": {"replaces": old}})
        client.vector_stores.files.poll(new, vector_store_id=store)
        assert found(client, store, "green tea") == [new]
        with pytest.raises(openai.NotFoundError):
            client.vector_stores.files.retrieve(old, vector_store_id=store)


def test_a_store_is_changed_and_deleted(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create(
            name="a", expires_after={"anchor": "last_active_at", "days": 2}, metadata={"x": "1"}
        )
        assert store.expires_at == store.last_active_at + 2 * 86_400
        changed = client.vector_stores.update(store.id, name="b", expires_after=None, metadata=None)
        assert (changed.name, changed.expires_after, changed.expires_at, changed.metadata) == (
            "b",
            None,
            None,
            {},
        )
        others = [client.vector_stores.create(name="b").id for _ in range(3)]
        assert [one.id for one in client.vector_stores.list(limit=1)] == sorted(
            [store.id, *others], reverse=True
        )
        gone = client.vector_stores.delete(store.id)
        assert (gone.id, gone.deleted) == (store.id, True)
        for ask in (client.vector_stores.retrieve, lambda one: found(client, one, "x")):
            with pytest.raises(openai.NotFoundError):
                ask(store.id)


def test_several_queries_share_one_page_by_strictly_decreasing_score(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        ids = [upload(client, text) for text in (TEA, CATS, ROWS)]
        client.vector_stores.file_batches.create_and_poll(vector_store_id=store, file_ids=ids)
        page = client.vector_stores.search(store, query=["green tea", "cats"], max_num_results=2)
        assert {hit.file_id for hit in page} == set(ids[:2])
        assert page.data[0].score > page.data[1].score
        with pytest.raises(openai.BadRequestError) as refused:
            client.vector_stores.search(store, query="a", rewrite_query=True)
        assert (refused.value.param, refused.value.code) == ("rewrite_query", "unsupported_parameter")
        with pytest.raises(openai.BadRequestError) as unlike:
            client.vector_stores.search(
                store, query="a", filters={"type": "eq", "key": "degrees", "value": "hot"}
            )
        assert unlike.value.code == "invalid_filter"


def test_what_was_accepted_is_read_after_a_restart(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        file = upload(client, TEA)
    catalogue = Catalogue(tmp_path)  # accepted by a server that was killed before it read anything
    with writing(catalogue.engine) as connection:
        attach(connection, owned(connection, "local", store), "local", [Wish(file)], window=64)
    catalogue.close()
    with serve(folder=tmp_path) as running:
        client = running.client()
        assert client.vector_stores.files.poll(file, vector_store_id=store).status == "completed"
        assert found(client, store, "green tea") == [file]


def test_a_batch_is_cancelled(serve, tmp_path):
    going = threading.Event()

    class Slow:
        def __call__(self, data, name, first_line=1):
            going.wait(10)
            return read(data, name, first_line)

        def close(self):
            return None

    with serve(folder=tmp_path, open_reader=Slow) as running:
        client = running.client()
        store = client.vector_stores.create().id
        ids = [upload(client, TEA + b"%d" % number) for number in range(3)]
        batch = client.vector_stores.file_batches.create(store, file_ids=ids)
        assert batch.status == "in_progress"
        cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
        going.set()
        assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 3)
        client.vector_stores.files.create_and_poll(ids[0], vector_store_id=store)
        assert found(client, store, "green tea") == [ids[0]]


def test_a_store_of_the_command_line_is_seen_and_searched(serve):
    with serve() as running:
        client = running.client()
        (store,) = [one for one in client.vector_stores.list() if one.name == "facts"]
        assert store.file_counts.completed == 1
        assert client.vector_stores.search(store.id, query="cats sleep").data
        assert client.vector_stores.search("facts", query="cats sleep").data


def test_chat_answers_from_an_uploaded_file(serve, tmp_path):
    with serve(folder=tmp_path, reply="Eighty [1].") as running:
        client = running.client()
        store = client.vector_stores.create().id
        file = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("t.txt", TEA)).id
        done = client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "How is green tea steeped?"}],
            extra_body={"fewshot": {"vector_store_ids": [store]}},
        )
        assert done.fewshot["sources"][0]["file_id"] == file
        assert f"/v1/files/{file}/content" in done.choices[0].message.annotations[0].url_citation.url
