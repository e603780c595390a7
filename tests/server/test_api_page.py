"""docs/api.md is true: its examples run as they stand there, with keys of just the scope that it names."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import httpx
import jsonschema
import pytest
from click.testing import CliRunner

from deploy.api_page import document
from indexer.commands.ingest import ingest
from server.keys import SCOPES
from tests.server.adapters.making import write_lora
from tests.server.conftest import ROWS
from tests.server.live_experiments import live

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
SAID = document()
NEVER_DONE = {("post", "/v1/responses/{response_id}/cancel")}


@pytest.fixture
def folder(data, tmp_path):
    """A data folder with the store `demo`."""
    here = shutil.copytree(data, tmp_path / "data")
    (here / "demo.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    arguments = [str(here / "demo.jsonl"), "--store", "demo", "--data", str(here), "--embedder", "hash"]
    assert CliRunner().invoke(ingest, arguments).exit_code == 0
    for seed, name in enumerate(("letters-june", "letters-july", "notes-june", "spare-june")):
        write_lora(here / "inbox" / name, seed=seed)
    (here / "experiments").mkdir()
    nobody = ("ramp = 1.0", "ramp = 0.0001")  # the other examples shall not meet it
    (here / "experiments" / "shots.toml").write_text(live(nobody))
    return here


class Shell:
    """As much of a shell, curl and jq as the page uses, over httpx."""

    def __init__(self, url, keys, client):
        self.variables = {"FEWSHOT": url}
        self.keys = keys
        self.client = client
        self.done = Counter()

    def run(self, block):
        comment = re.match(r"# a (\d+)\n", block)
        status = int(comment[1]) if comment else 200
        command = block[comment.end() :] if comment else block
        kept = re.fullmatch(r"([A-Z]+)=\$\((.*) \| jq -r \.id\)\n", command, re.DOTALL)
        answer = self.curl(shlex.split((kept[2] if kept else command).replace("\\\n", " ")))
        assert answer.status_code == status, (block, answer.text)
        if kept:
            self.variables[kept[1]] = answer.json()["id"]
        return answer

    def curl(self, words):
        assert words[:2] == ["curl", "-s"]
        method, url, headers, body, form = None, "", {}, None, {}
        rest = iter(words[2:])
        for word in rest:
            if word == "-X":
                method = next(rest)
            elif word == "-H":
                name, _, value = next(rest).partition(": ")
                headers[name.lower()] = value
            elif word == "-d":
                body = self.filled(next(rest))
            elif word == "-F":
                name, _, value = next(rest).partition("=")
                form[name] = (
                    (None, value) if not value.startswith("@") else (value[1:], b"Leave is 25 days a year.")
                )
            else:
                assert not word.startswith("-"), word
                url = self.filled(word)
        method = method or ("POST" if body is not None or form else "GET")
        operation = operation_of(method, httpx.URL(url).path)
        headers["authorization"] = f"Bearer {self.keys[scope_of(operation)]}"
        answer = self.client.request(
            method,
            url,
            headers=headers,
            content=body.encode() if body is not None else None,
            files=form or None,
        )
        self.check(operation, answer)
        return answer

    def check(self, operation, answer):
        """The status is one that the document names, the body of the shape that it gives for it."""
        responses = SAID["paths"][operation[1]][operation[0]]["responses"]
        self.done[operation] += answer.status_code == 200 or operation in NEVER_DONE
        content = responses[str(answer.status_code)]["content"]
        media = answer.headers["content-type"].partition(";")[0]
        assert media in content, (operation, media)
        if media == "application/json":
            schema = {**content[media]["schema"], "components": SAID["components"]}
            jsonschema.validate(answer.json(), schema)

    def filled(self, text):
        return re.sub(r"\$([A-Z]+)", lambda match: self.variables[match[1]], text)

    def settle(self):
        """Files are read in the background: wait, as a reader would by asking again."""
        store, file = (self.variables.get(name) for name in ("STORE", "FILE"))
        until = time.monotonic() + 10
        headers = {"authorization": f"Bearer {self.keys['files']}"}
        while store and file:
            url = f"{self.variables['FEWSHOT']}/v1/vector_stores/{store}/files/{file}"
            said = self.client.get(url, headers=headers).json()
            if said.get("status") != "in_progress":
                return
            assert time.monotonic() < until
            time.sleep(0.02)


def operation_of(method, path):
    """(method, path as the document has it) of an address."""
    found = [
        (method.lower(), known)
        for known, operations in SAID["paths"].items()
        if method.lower() in operations and re.fullmatch(re.sub(r"{\w+}", "[^/]+", known), path)
    ]
    return min(found, key=lambda one: one[1].count("{"))


def scope_of(operation):
    security = SAID["paths"][operation[1]][operation[0]].get("security")
    return security[0]["key"][0] if security else None


def test_the_examples_of_the_page_run(serve, folder, monkeypatch):
    options = {"folder": folder, "experiments": folder / "experiments", "with_keys": True}
    with serve(**options, name=MODEL, reply="They sleep for thirteen hours [1].") as server:
        keys = {scope: server.keys.create(tenant="t", scopes=[scope]) for scope in SCOPES}
        client = server.clients.enter_context(httpx.Client(timeout=20))
        shell = Shell(server.url, {**keys, None: "none"}, client)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", server.keys.create(tenant="t", scopes=SCOPES))
        names: dict[str, object] = {}
        printed = io.StringIO()
        assert BLOCKS[0][1].startswith("export FEWSHOT=")
        for language, block in BLOCKS[1:]:
            text = block.replace(EMBEDDER, "hash")
            if language == "bash":
                shell.run(text)
                shell.settle()
            else:
                with contextlib.redirect_stdout(printed):
                    exec(compile(text, "docs/api.md", "exec"), names)
        names["client"].close()
    every = {(method, path) for path, operations in SAID["paths"].items() for method in operations}
    assert every - set(shell.done) == set(), "give these an example in deploy/api_examples.py"
    assert {operation for operation, times in shell.done.items() if not times} == set()
    said = printed.getvalue()
    assert "They sleep for thirteen hours [1]. grounded" in said
    assert "completed None" in said


def test_the_commands_are_ones_that_a_shell_reads():
    script = "\n".join(block for language, block in BLOCKS if language == "bash")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_route_is_described_with_its_scope():
    for path, operations in SAID["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path}: say in a docstring what it does"
            assert f"### {method.upper()} {path}\n" in PAGE
    assert not re.search(r"openai-surface|§", PAGE)
