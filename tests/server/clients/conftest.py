"""`fewshot serve` as people start it for other programs: a process that asks for a key."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.servers import fewshot_server


class Address(NamedTuple):
    """Of a server with a key of the scopes infer and files."""

    url: str  # without /v1
    key: str
    data: Path  # its data folder


@pytest.fixture(scope="package")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A server that says the question again, and calls the functions that it is told to call."""
    data = tmp_path_factory.mktemp("data")
    settings = {
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_AUTH_ENABLED": "true",
        "FEWSHOT_ENGINE_TOOL_PARSER": "hermes",
    }
    create = ["keys", "create", "--scope", "infer", "--scope", "files", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", *create],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    with fewshot_server(settings, "--echo") as (_, port):
        yield Address(f"http://127.0.0.1:{port}", json.loads(done.stdout)["key"], data)
