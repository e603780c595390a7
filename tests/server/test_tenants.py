"""What belongs to one tenant does not exist for another: not found reads the same for both."""

import httpx
import pytest

from tests.server.test_vector_stores import TEA, upload

ABSENT = {"file-": "file-01ARZ3NDEKTSV4RRFFQ69G5FAV", "vs_": "vs_01ARZ3NDEKTSV4RRFFQ69G5FAV"}
ROUTES = [
    ("GET", "/files/{file}", None),
    ("GET", "/files/{file}/content", None),
    ("DELETE", "/files/{file}", None),
    ("GET", "/vector_stores/{store}", None),
    ("POST", "/vector_stores/{store}", {"name": "mine"}),
    ("DELETE", "/vector_stores/{store}", None),
    ("POST", "/vector_stores/{store}/search", {"query": "tea"}),
    ("POST", "/vector_stores/{store}/files", {"file_id": "{own}"}),
    ("GET", "/vector_stores/{store}/files", None),
    ("GET", "/vector_stores/{store}/files/{file}", None),
    ("POST", "/vector_stores/{store}/files/{file}", {"attributes": {"a": 1}}),
    ("DELETE", "/vector_stores/{store}/files/{file}", None),
    ("GET", "/vector_stores/{store}/files/{file}/content", None),
    ("POST", "/vector_stores/{store}/file_batches", {"file_ids": ["{own}"]}),
    ("POST", "/vector_stores", {"file_ids": ["{file}"]}),
    ("POST", "/vector_stores/{mine}/files", {"file_id": "{file}"}),
    ("POST", "/vector_stores/{mine}/file_batches", {"files": [{"file_id": "{file}"}]}),
    ("POST", "/vector_stores/{mine}/files", {"file_id": "{own}", "fewshot": {"replaces": "{file}"}}),
    (
        "POST",
        "/chat/completions",
        {
            "model": "echo",
            "messages": [{"role": "user", "content": "tea"}],
            "fewshot": {"vector_store_ids": ["{store}"]},
        },
    ),
]


def filled(value, names):
    if isinstance(value, str):
        for name, given in names.items():
            value = value.replace("{" + name + "}", given)
        return value
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    return [filled(item, names) for item in value] if isinstance(value, list) else value


def test_anothers_ids_are_absent_ids(serve, tmp_path):
    with serve(folder=tmp_path, with_keys=True) as running:
        keys = {name: running.keys.create(tenant=name, scopes=["files", "infer"]) for name in ("a", "b")}
        clients = {name: running.client(api_key=key) for name, key in keys.items()}
        a, b = clients["a"], clients["b"]
        file = a.vector_stores.files.upload_and_poll(
            vector_store_id=(store := a.vector_stores.create(name="secret").id), file=("t.txt", TEA)
        ).id
        own, mine = upload(b, TEA), b.vector_stores.create().id
        for method, path, body in ROUTES:
            said = []
            for foreign in (
                {"file": file, "store": store},
                {"file": ABSENT["file-"], "store": ABSENT["vs_"]},
            ):
                names = {**foreign, "own": own, "mine": mine}
                answer = httpx.request(
                    method,
                    f"{running.url}/v1{filled(path, names)}",
                    json=filled(body, names),
                    headers={"authorization": f"Bearer {keys['b']}"},
                )
                assert answer.status_code == 404, (method, path, answer.text)
                text = answer.text
                for name, given in foreign.items():
                    text = text.replace(given, name)
                said.append(text)
            assert said[0] == said[1], (method, path)
        assert [one.id for one in b.files.list()] == [own]
        assert store not in [one.id for one in b.vector_stores.list()]
        assert a.vector_stores.retrieve(store).file_counts.completed == 1
        assert [hit.file_id for hit in a.vector_stores.search(store, query="green tea")] == [file]


def test_a_store_of_the_command_line_is_read_by_all_and_changed_by_none(serve):
    with serve(with_keys=True) as running:
        client = running.client(api_key=running.keys.create(tenant="a", scopes=["files", "infer"]))
        assert client.vector_stores.search("facts", query="cats sleep").data
        (store,) = [one for one in client.vector_stores.list() if one.name == "facts"]
        (file,) = client.vector_stores.files.list(store.id)
        for change in (
            lambda: client.vector_stores.delete(store.id),
            lambda: client.vector_stores.update(store.id, name="mine"),
            lambda: client.vector_stores.files.delete(file.id, vector_store_id=store.id),
        ):
            with pytest.raises(Exception, match="command line") as refused:
                change()
            assert refused.value.status_code == 403


SCOPED = [
    ("GET", "/v1/files", "files"),
    ("POST", "/v1/files", "files"),
    ("GET", "/v1/files/file-1/content", "files"),
    ("DELETE", "/v1/files/file-1", "files"),
    ("POST", "/v1/vector_stores", "files"),
    ("GET", "/v1/vector_stores/vs_1", "files"),
    ("DELETE", "/v1/vector_stores/vs_1", "files"),
    ("POST", "/v1/vector_stores/vs_1/files", "files"),
    ("POST", "/v1/vector_stores/vs_1/file_batches/vsfb_1/cancel", "files"),
    ("POST", "/v1/vector_stores/vs_1/search", "infer"),
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_every_route_asks_for_its_scope(serve, tmp_path, method, path, scope):
    other = {"files": "infer", "infer": "files"}[scope]
    with serve(folder=tmp_path, with_keys=True) as running:

        def ask(key):
            return httpx.request(method, running.url + path, headers={"authorization": f"Bearer {key}"})

        assert ask("none").status_code == 401
        assert ask(running.keys.create(tenant="t", scopes=[other])).status_code == 403
        assert ask(running.keys.create(tenant="t", scopes=[scope])).status_code not in (401, 403)
