"""Paths and addresses in every place where a caller may write a name: nothing outside is touched."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.indexer.documents import docx, odf, zipped
from tests.server.adapters.making import write_lora

UP = (
    "../",
    "..\\",
    "....//",
    "..;/",
    "%2e%2e/",
    "%252e%252e%252f",
    "..%2f",
    "..%5c",
    "%c0%ae%c0%ae/",
    "．．/",
)
TARGETS = ("victim", "etc/passwd", "victim\x00.txt", "proc/self/environ")
ABSOLUTE = (
    "/etc/passwd",
    "//etc/passwd",
    "C:\\Windows\\win.ini",
    "\\\\host\\share",
    "~/.ssh/id_rsa",
    "/dev/stdin",
)
URLS = (
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://[::ffff:169.254.169.254]/",
    "http://2852039166/",
    "http://0x7f000001:22/",
    "https://evil.example/x",
    "ftp://evil.example/x",
    "file:///etc/passwd",
    "gopher://evil.example:70/_x",
    "dict://evil.example:11211/stat",
    "jar:http://evil.example!/x",
    "data:text/html,x",
)
ODD = (
    ".",
    "..",
    "...",
    "",
    " ",
    "-",
    "--help",
    "con",
    "a" * 300,
    "a/" * 100,
    "\r\nx: y",
    "%00",
    "$(id)",
    "`id`",
    "{{7*7}}",
)
NAMES = [
    *(up * deep + target for up in UP for deep in (1, 2, 3, 5, 12) for target in TARGETS),
    *ABSOLUTE,
    *URLS,
    *ODD,
]

EVERY = [pytest.param(7), pytest.param(1, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """(client, the folder above the data, what left it so far)."""
    above = tmp_path_factory.mktemp("above")
    (above / "victim").write_text("untouched")
    data = above / "a" / "b" / "data"
    write_lora(data / "inbox" / "polite")
    log = above / "log.jsonl"
    environment = {
        **os.environ,
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_TELEMETRY_LOG_REQUESTS": "true",
    }
    command = [sys.executable, "-m", "tests.server.outside", str(log), "serve", "--echo", "--port", "0"]
    said = (
        tmp_path_factory.mktemp("said") / "stderr"
    )  # no pipe: nobody reads while it writes a line a request
    with said.open("w") as stderr, subprocess.Popen(command, env=environment, stderr=stderr) as child:
        while not (found := re.search(r"(http://\S+)/v1.*\n.*\n", said.read_text())):
            assert child.poll() is None, said.read_text()
            time.sleep(0.05)
        with httpx.Client(base_url=found[1], timeout=60) as client:
            yield client, above, lambda: [json.loads(line) for line in log.read_text().splitlines()]
        child.terminate()
    assert "Traceback" not in said.read_text()


def outside(above):
    """Everything above the data folder."""
    return sorted(str(path.relative_to(above)) for path in above.rglob("*") if "data" not in path.parts)


ACTS = """
import os, shutil, sys
from pathlib import Path
from tests.server.outside import watch
data, away, log = map(Path, sys.argv[1:])
watch(log)
for folder in (data / "in", away / "out"):
    folder.mkdir()
    (folder / "a").write_text("x")
    (folder / "a").rename(folder / "b")
    shutil.rmtree(folder)
"""


def test_the_watch_sees_what_leaves_and_nothing_that_stays(tmp_path):
    data, away, log = tmp_path / "data", tmp_path / "away", tmp_path / "log"
    data.mkdir(), away.mkdir()
    asked = [sys.executable, "-c", ACTS, str(data), str(away), str(log)]
    subprocess.run(asked, env={**os.environ, "FEWSHOT_DATA_DIR": str(data)}, check=True)
    seen = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one[0] for one in seen] == ["os.mkdir", "write", "os.rename", "os.remove", "os.rmdir"]
    assert all("in" not in Path(one[1]).parts for one in seen)


@pytest.mark.parametrize("every", EVERY)
def test_no_name_that_a_caller_writes_leads_out(watched, every):
    client, above, left = watched
    before = outside(above)
    store = client.post("/v1/vector_stores", json={"name": "s"}).json()["id"]
    for name in NAMES[::every]:
        asked = quote(name, safe="%/")
        for path in (
            f"files/{asked}",
            f"files/{asked}/content",
            f"vector_stores/{asked}",
            f"adapters/{asked}",
        ):
            if re.search(r"[\x00-\x20]", path):
                continue  # no client can send it; test_auth_matrix writes such lines byte by byte
            for method in ("GET", "DELETE"):
                answer = client.request(method, f"/v1/{path}")
                # A client may shorten the path itself, to that of a list.
                assert answer.status_code in (200, 400, 404, 405), (method, path, answer.text)
                assert "root:" not in answer.text
        bodies = (
            ("adapters", {"name": "x", "inbox": name}),
            ("adapters", {"name": name, "inbox": "polite"}),
            (f"vector_stores/{store}/files", {"file_id": name}),
            ("vector_stores/no/search", {"query": name}),
            ("chat/completions", {"model": name, "messages": [{"role": "user", "content": "x"}]}),
            ("chat/completions", {**ASK, "fewshot": {"template": name}}),
            ("chat/completions", {**ASK, "fewshot": {"vector_store_ids": [name]}}),
            ("responses", {"model": "echo", "input": "x", "previous_response_id": name}),
        )
        for path, body in bodies:
            answer = client.post(f"/v1/{path}", json=body)
            assert 400 <= answer.status_code < 500, (path, body, answer.text)
            assert str(above) not in answer.text
    assert left() == []
    assert outside(above) == before
    assert (above / "victim").read_text() == "untouched"
    assert client.get("/v1/adapters").json()["data"] == []


ASK = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize("every", EVERY)
def test_uploads_keep_their_names_as_words_and_are_stored_under_others(watched, every):
    client, above, left = watched
    for name in NAMES[::every]:
        form = {"file": (name, b"hello"), "purpose": (None, "assistants")}
        answer = client.post("/v1/files", files=form)
        assert answer.status_code in (200, 400), (name, answer.text)
        if answer.status_code == 200:
            assert client.get(f"/v1/files/{answer.json()['id']}/content").content == b"hello"
    assert left() == []
    stored = {path.name for path in (above / "a" / "b" / "data" / "files").iterdir()}
    assert all(re.fullmatch(r"[0-9a-f]{64}", name) for name in stored)


def test_nothing_that_a_document_points_to_is_fetched_or_opened(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    links = "".join(
        f'<img src="{url}"><link rel="stylesheet" href="{url}"><iframe src="{url}"></iframe>'
        f'<a href="{url}">x</a>'
        f'<script src="{url}"></script><object data="{url}"></object><base href="{url}">'
        for url in URLS
    )
    entity = '<!DOCTYPE x [<!ENTITY e SYSTEM "{}">]>'
    (folder / "links.html").write_text(f"<html><head></head><body><p>Text.</p>{links}</body></html>")
    (folder / "links.md").write_text("\n".join(f"![x]({url}) [y]({url})" for url in URLS) + "\n\nText.")
    (folder / "links.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><text>Text</text>'
        + "".join(f'<image xlink:href="{url}"/>' for url in URLS if "&" not in url)
        + "</svg>"
    )
    (folder / "mail.eml").write_bytes(
        b"From: a@b\nSubject: x\nMIME-Version: 1.0\nContent-Type: message/external-body; access-type=URL; "
        b'URL="http://evil.example/x"\n\nContent-Type: text/html\n\n<p>Text</p>'
    )
    (folder / "page.html").write_text(f'<meta http-equiv="refresh" content="0;url={URLS[0]}"><p>Text.</p>')
    picture = '<w:p><w:r><w:t>Text</w:t></w:r></w:p><w:p><w:r><w:pict r:link="rId9"/></w:r></w:p>'
    (folder / "links.docx").write_bytes(docx("Text", raw=picture))
    (folder / "links.odt").write_bytes(
        odf('<text:p><text:a xlink:href="http://evil.example/">Text</text:a></text:p>')
    )
    (folder / "names.zip").write_bytes(
        zipped(
            **{name: b"Some text of a file." for name in ("../../victim.txt", "/tmp/victim.txt", "a/b.txt")}
        )
    )
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for number, url in enumerate(URLS):
        (hostile / f"{number}.xml").write_text(entity.format(url) + "<x>&e;</x>")
        (hostile / f"{number}.docx").write_bytes(docx("Text", prolog=entity.format(url)))
    log = tmp_path / "log.jsonl"
    for place in (folder, hostile):
        command = [sys.executable, "-m", "tests.server.outside", str(log), "read", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert log.read_text() == ""


def test_what_does_leave_would_be_seen(tmp_path):
    log = tmp_path / "log.jsonl"
    script = (
        "import socket, sys; from pathlib import Path; from tests.server.outside import watch; "
        f"watch(Path({str(log)!r})); open({str(tmp_path / 'x')!r}, 'w').close(); "
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert [json.loads(line)[0] for line in log.read_text().splitlines()] == ["write", "connect"]
