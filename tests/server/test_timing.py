"""S4: what is another tenant's is denied as soon as what is not there: by ranks, so on a busy machine too."""

import json
import random
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest
from scipy.stats import rankdata

from indexer.database import open_database
from server.ids import new_id
from server.keys import Keys, read_secret
from tests.server.test_serving import serving

MOST_AUC = 0.05  # from 0.5: how well the better guess does
ASK = [{"role": "user", "content": "ducks"}]


class Caller:
    """One key on one connection."""

    def __init__(self, url, key):
        at = urlsplit(url)
        self._connection = HTTPConnection(at.hostname, at.port, timeout=60)
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def ask(self, method, path, body=None, headers=None):
        """(seconds, status, body) of one request."""
        sent = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        began = time.perf_counter()
        self._connection.request(method, f"/v1{path}", sent, {**self._headers, **(headers or {})})
        answer = self._connection.getresponse()
        said = answer.read()
        return time.perf_counter() - began, answer.status, said

    def close(self):
        self._connection.close()

    def made(self, path, body, headers=None):
        _, status, said = self.ask("POST", path, body, headers)
        assert status == 200, said
        return json.loads(said)["id"]

    def upload(self, text):
        form = (
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--x\r\n'
            b'content-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + text + b"\r\n--x--\r\n"
        )
        return self.made("/files", form, {"content-type": "multipart/form-data; boundary=x"})


KINDS = {  # prefix of the id, and how it is asked for
    "file": ("file-", lambda one: ("GET", f"/files/{one}", None)),
    "content": ("file-", lambda one: ("GET", f"/files/{one}/content", None)),
    "store": ("vs_", lambda one: ("GET", f"/vector_stores/{one}", None)),
    "search": ("vs_", lambda one: ("POST", f"/vector_stores/{one}/search", {"query": "ducks"})),
    "attach": ("vs_", lambda one: ("POST", f"/vector_stores/{one}/files", {"file_id": "file-x"})),
    "grounded": (
        "vs_",
        lambda one: (
            "POST",
            "/chat/completions",
            {"model": "echo", "messages": ASK, "fewshot": {"vector_store_ids": [one]}},
        ),
    ),
    "response": ("resp_", lambda one: ("GET", f"/responses/{one}", None)),
    "feedback": (
        "chatcmpl-",
        lambda one: ("POST", "/feedback", {"id": one, "metric": "thumb", "value": True}),
    ),
    "replay": ("chatcmpl-", lambda one: ("POST", f"/replay/{one}", {})),
}


def auc(positive, negative):
    """How often one of the first took longer than one of the second: Mann-Whitney's U as a share."""
    ranks = rankdata(np.concatenate([positive, negative]))
    many = len(positive)
    return (ranks[:many].sum() - many * (many + 1) / 2) / (many * len(negative))


def test_the_measure_tells_what_takes_longer():
    chance = np.random.default_rng(1)
    same, later = chance.normal(size=(2, 2000)), chance.normal(0.5, 1, 2000)
    assert abs(auc(*same) - 0.5) < 0.03
    assert auc(later, same[0]) > 0.6


@pytest.mark.parametrize(
    "pairs", [5, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_what_is_anothers_is_denied_as_soon_as_what_is_not_there(tmp_path, pairs, record_property):
    known = Keys(open_database(tmp_path / "journal.db"), pepper=read_secret(tmp_path))
    keys = [known.create(tenant=name, scopes=["infer", "files", "feedback", "audit"]) for name in ("a", "b")]
    with serving(tmp_path, FEWSHOT_AUTH_ENABLED="true") as (_, url):
        owner, other = (Caller(url, key) for key in keys)
        owned = {"file-": [owner.upload(b"Ducks swim.") for _ in range(8)]}
        owned["vs_"] = [owner.made("/vector_stores", {"file_ids": [file]}) for file in owned["file-"]]
        owned["resp_"] = [owner.made("/responses", {"model": "echo", "input": "x"}) for _ in range(8)]
        owned["chatcmpl-"] = [
            owner.made("/chat/completions", {"model": "echo", "messages": ASK}) for _ in range(8)
        ]
        chance = random.Random(pairs)
        told = {}
        for kind, (prefix, asked) in KINDS.items():
            seconds = {"foreign": [], "absent": []}
            bodies = set()
            for number in range(pairs + 5):
                which = {"foreign": chance.choice(owned[prefix]), "absent": new_id(prefix)}
                for name in chance.sample(sorted(which), 2):
                    took, status, said = other.ask(*asked(which[name]))
                    assert status == 404, (kind, name, said)
                    bodies.add(said.replace(which[name].encode(), b"ID"))
                    if number >= 5:
                        seconds[name].append(took)
            assert len(bodies) == 1, (kind, bodies)
            told[kind] = round(float(auc(seconds["foreign"], seconds["absent"])), 3)
        for caller in (owner, other):
            caller.close()
        record_property("auc", told)
        if pairs >= 2000:  # a few scatter by more than what is looked for
            assert all(abs(one - 0.5) <= MOST_AUC for one in told.values()), told
