"""Whatever is sent to files and stores, the answer is a refusal with an error object, never a failure."""

import json
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.test_vector_stores import TEA

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
NAMES = """name description file_ids chunking_strategy expires_after metadata fewshot file_id attributes files
query filters max_num_results ranking_options search_mode max_results_per_file"""
fields = st.sampled_from(NAMES.split())
bodies = values | st.dictionaries(fields, values, max_size=4)
PATHS = [
    "/vector_stores",
    "/vector_stores/{id}",
    "/vector_stores/{id}/search",
    "/vector_stores/{id}/files",
    "/vector_stores/{id}/files/{id}",
    "/vector_stores/{id}/file_batches",
    "/vector_stores/{id}/file_batches/{id}/cancel",
]


@pytest.fixture
def running(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        yield running


def checked(answer):
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 300:
        error = answer.json()["error"]
        assert error["message"]
        assert set(error) == {"message", "type", "param", "code"}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), body=bodies, odd=st.text(max_size=20), real=st.booleans())
def test_bodies_and_ids(running, path, body, odd, real):
    store = _store(running)
    given = quote(store if real else odd or "x", safe="")
    url = f"{running.url}/v1{path.replace('{id}', given)}"
    checked(httpx.post(url, content=json.dumps(body), headers={"content-type": "application/json"}))
    checked(httpx.get(url.removesuffix("/search"), params={"after": odd, "limit": odd} if odd else None))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.text(max_size=40), fields=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
)
def test_forms(running, name, fields):
    form = {"purpose": "assistants", **fields}
    answer = httpx.post(f"{running.url}/v1/files", data=form, files={"file": (name or "a", TEA)})
    checked(answer)
    if answer.status_code == 200:
        url = f"{running.url}/v1/files/{answer.json()['id']}"
        content = httpx.get(f"{url}/content")
        assert (content.status_code, content.content) == (200, TEA)
        checked(httpx.delete(url))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200), cut=st.integers(0, 300))
def test_torn_forms(running, content, cut):
    part = (
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--b--"
    )
    head = {"content-type": "multipart/form-data; boundary=b"}
    checked(httpx.post(f"{running.url}/v1/files", content=part[:cut], headers=head))
    checked(httpx.post(f"{running.url}/v1/files", content=content, headers=head))


def _store(running, known={}):  # noqa: B006  # one store for a server
    if running.url not in known:
        known[running.url] = httpx.post(f"{running.url}/v1/vector_stores", json={}).json()["id"]
    return known[running.url]
