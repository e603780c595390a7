"""Files over HTTP, by the unmodified client."""

import httpx
import openai
import pytest

TEA = b"Green tea is steeped at eighty degrees for two minutes."


def test_a_file_comes_back_as_it_went_in(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        file = client.files.create(
            file=("../notes/tea.txt", TEA),
            purpose="assistants",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (file.bytes, file.filename, file.status, file.object) == (
            len(TEA),
            "tea.txt",
            "processed",
            "file",
        )
        assert file.expires_at == file.created_at + 3600
        assert client.files.wait_for_processing(file.id).id == file.id
        assert client.files.retrieve(file.id) == file
        answer = client.files.with_raw_response.content(file.id)
        assert answer.content == TEA
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert client.files.delete(file.id).deleted is True
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)
        assert not [path for path in (tmp_path / "files").iterdir() if path.is_file()]


def test_equal_bytes_are_two_files_of_one_content(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        one = client.files.create(file=("a.txt", TEA), purpose="assistants")
        two = client.files.create(file=("b.txt", TEA), purpose="user_data")
        assert one.id != two.id
        assert len(list((tmp_path / "files").iterdir())) == 1
        client.files.delete(one.id)
        assert client.files.content(two.id).content == TEA
        assert [file.id for file in client.files.list(purpose="user_data")] == [two.id]


def test_pages_go_on_after_an_item_that_is_gone(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        client = running.client()
        ids = [client.files.create(file=("a.txt", b"%d" % n), purpose="assistants").id for n in range(5)]
        assert [file.id for file in client.files.list(limit=2, order="asc")] == sorted(ids)
        first = client.files.list(limit=2, order="asc")
        client.files.delete(first.data[-1].id)
        assert [file.id for file in first.get_next_page()] == sorted(ids)[2:]
        assert client.files.list(limit=9).has_more is False
        with pytest.raises(openai.BadRequestError) as wrong:
            client.files.list(after="vs_01ARZ3NDEKTSV4RRFFQ69G5FAV")
        assert wrong.value.param == "after"


def test_what_is_too_large_is_refused_while_it_comes_and_leaves_nothing(serve, tmp_path):
    with serve(folder=tmp_path, upload_bytes=4096) as running:
        client = running.client()
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(file=("a.txt", b"x" * 300_000), purpose="assistants")
        assert refused.value.status_code == 413
        assert not list(client.files.list())
        assert not (tmp_path / "files").exists()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "purpose", "missing_parameter"),
        ({"purpose": "batch"}, "purpose", "unsupported_parameter"),
        ({"purpose": "assistants", "colour": "red"}, "colour", "unsupported_parameter"),
        ({"purpose": "assistants", "expires_after[seconds]": "9"}, "expires_after.seconds", "invalid_value"),
        (
            {"purpose": "assistants", "expires_after[anchor]": "created_at"},
            "expires_after.seconds",
            "missing_parameter",
        ),
    ],
)
def test_a_form_is_refused_by_its_field(serve, tmp_path, fields, param, code):
    with serve(folder=tmp_path) as running:
        answer = httpx.post(f"{running.url}/v1/files", data=fields, files={"file": ("a.txt", TEA)})
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)


def test_what_is_no_form_is_refused(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        url = f"{running.url}/v1/files"
        assert httpx.post(url, json={}).status_code == 415
        assert httpx.post(url, data={"purpose": "assistants"}).status_code == 415
        head = {"content-type": "multipart/form-data"}
        assert httpx.post(url, content=b"x", headers=head).status_code == 400
        torn = {"content-type": "multipart/form-data; boundary=b"}
        assert httpx.post(url, content=b"--b\r\nnonsense", headers=torn).status_code == 400
