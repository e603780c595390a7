"""Stores and files that end by themselves, that are common, that are written to from two sides."""

import time

import openai
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from indexer import schema, uploads
from indexer.catalogue import Catalogue
from indexer.commands.ingest import ingest
from indexer.database import writing
from indexer.deleting import delete_file, find_file
from indexer.erasure import purge
from indexer.traces import traces
from indexer.verification import findings
from tests.server.test_vector_stores import CATS, TEA, found, upload


def put(folder, *arguments):
    done = CliRunner().invoke(ingest, [*arguments, "--data", str(folder), "--embedder", "hash"])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_store_that_nobody_used_answers_no_more(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1}).id
        file = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("t.txt", TEA)).id
        catalogue = Catalogue(tmp_path)

        def unused_for(hours):
            with writing(catalogue.engine) as connection:
                then = int(time.time()) - hours * 3600
                connection.execute(sa.update(schema.stores).values(last_active_at=then))

        unused_for(23)
        assert found(client, store, "green tea") == [file]  # which keeps it
        assert time.time() - client.vector_stores.retrieve(store).last_active_at < 60
        unused_for(25)
        assert client.vector_stores.retrieve(store).status == "expired"
        with pytest.raises(openai.BadRequestError) as refused:
            found(client, store, "green tea")
        assert refused.value.code == "vector_store_expired"
        with pytest.raises(openai.BadRequestError, match="expired"):
            client.chat.completions.create(
                model="echo",
                messages=[{"role": "user", "content": "tea"}],
                extra_body={"fewshot": {"vector_store_ids": [store]}},
            )
        client.vector_stores.update(store, expires_after=None)
        assert found(client, store, "green tea") == [file]
        catalogue.close()


def test_a_file_ends_everywhere_when_its_time_is_over(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        ends = {"anchor": "created_at", "seconds": 3600}
        file = client.files.create(file=("t.txt", TEA), purpose="assistants", expires_after=ends).id
        client.vector_stores.files.create_and_poll(file, vector_store_id=store)
        catalogue = Catalogue(tmp_path)
        with writing(catalogue.engine) as connection:
            connection.execute(sa.update(schema.uploads).values(expires_at=int(time.time())))
        with pytest.raises(openai.NotFoundError):
            client.files.content(file)
        assert uploads.expire(catalogue) == 1
        assert found(client, store, "green tea") == []
        assert not list((tmp_path / "files").iterdir())
        catalogue.close()


def test_the_command_line_and_the_api_write_to_one_store(serve, tmp_path):
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "tea.txt").write_bytes(TEA)
    put(tmp_path, str(documents), "--store", "both")
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = next(one.id for one in client.vector_stores.list() if one.name == "both")
        file = client.vector_stores.files.upload_and_poll(
            vector_store_id=store, file=("tea.txt", TEA), attributes={"a": 1}
        ).id
        assert len(set(found(client, store, "green tea"))) == 2  # equal bytes, and neither is the other
        (documents / "cats.txt").write_bytes(CATS)
        (documents / "tea.txt").unlink()
        put(tmp_path, str(documents), "--store", "both", "--sync")
        assert set(found(client, store, "green tea", filters={"type": "eq", "key": "a", "value": 1})) == {
            file
        }
        assert len(client.vector_stores.files.list(store).data) == 2
        cats = next(one for one in client.vector_stores.files.list(store) if one.id != file)
        client.vector_stores.files.update(cats.id, vector_store_id=store, attributes={"a": 2})
        assert found(client, store, "cats", filters={"type": "eq", "key": "a", "value": 2}) == [cats.id]
        client.vector_stores.files.delete(cats.id, vector_store_id=store)
        assert set(found(client, store, "cats")) <= {file}


def test_a_full_disk_is_said_and_nothing_is_left(serve, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    with serve(folder=tmp_path) as running:
        client = running.client()
        monkeypatch.setattr(uploads.Incoming, "write", full)
        with pytest.raises(openai.InternalServerError) as refused:
            client.files.create(file=("t.txt", TEA), purpose="assistants")
        assert (refused.value.status_code, refused.value.code) == (507, "insufficient_storage")
        monkeypatch.undo()
        assert not list((tmp_path / "files").iterdir())
        assert upload(client, TEA)


def test_another_embedding_model_is_chosen_by_name_or_not_at_all(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        name = client.vector_stores.create().fewshot["embedding_model"]
        same = client.vector_stores.create(extra_body={"fewshot": {"embedding_model": name}})
        assert same.fewshot["embedding_model"] == name
        for wrong in ("../../etc", "/etc", "org/model", "none"):
            with pytest.raises(openai.BadRequestError) as refused:
                client.vector_stores.create(extra_body={"fewshot": {"embedding_model": wrong}})
            assert refused.value.param == "fewshot.embedding_model"


def test_what_was_deleted_over_http_is_nowhere_after_a_purge(serve, tmp_path):
    secret = b"The zorvane stands in the quilbex of Drennic."
    with serve(folder=tmp_path) as running:
        client = running.client()
        store, other = client.vector_stores.create().id, client.vector_stores.create().id
        file = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("s.txt", secret)).id
        client.vector_stores.files.create_and_poll(file, vector_store_id=other)
        kept = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("t.txt", TEA)).id
        client.files.delete(file)
        client.vector_stores.delete(other)
        catalogue = Catalogue(tmp_path)
        purge(catalogue)
        assert list(traces(catalogue, secret.decode())) == []
        assert list(findings(catalogue, catalogue.store(store))) == []
        catalogue.close()
        assert found(client, store, "green tea") == [kept]


def test_a_command_takes_an_upload_out_of_a_store_by_its_id(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        store = client.vector_stores.create().id
        file = client.vector_stores.files.upload_and_poll(vector_store_id=store, file=("t.txt", TEA)).id
        catalogue = Catalogue(tmp_path)
        mine = catalogue.store(store)
        delete_file(catalogue, mine, find_file(catalogue, mine, file))
        assert found(client, store, "green tea") == []
        assert client.files.content(file).content == TEA
        assert {trace.where for trace in traces(catalogue, TEA.decode())} >= {str(uploads_file(tmp_path))}
        catalogue.close()


def uploads_file(folder):
    (only,) = (folder / "files").iterdir()
    return only
