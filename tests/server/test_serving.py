"""`fewshot serve` as a process: listens at once, drains on SIGTERM, refuses a taken port."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from click.testing import CliRunner

from indexer.database import open_database
from server.cli import main
from server.journal import Journal
from server.refusal import EXIT_CONFIGURATION
from server.running import listen
from server.settings import load_settings


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "FEWSHOT_DATA_DIR": str(folder),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_ENGINE_KIND": "echo",
        **more,
    }


@contextmanager
def serving(folder: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ(folder, **more))
    try:
        assert child.stderr is not None
        found = re.search(r"http://\S+(?=/v1)", child.stderr.readline())
        assert found
        while True:
            try:
                if httpx.get(f"{found[0]}/ready").status_code == 200:
                    break
            except httpx.ConnectError:
                pass
            assert child.poll() is None
            time.sleep(0.05)
        yield child, found[0]
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


def test_sigterm_finishes_what_was_admitted_and_exits_0(tmp_path):
    slow = {"FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": "0.1"}
    with serving(tmp_path, **slow) as (child, url):
        said: list[str] = []

        def ask() -> None:
            body = {"model": "echo", "messages": [{"role": "user", "content": "0123456789"}]}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()
            said.append(answer["choices"][0]["message"]["content"])

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.4)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        late = httpx.post(
            f"{url}/v1/chat/completions",
            json={"model": "echo", "messages": [{"role": "user", "content": "late"}]},
        )
        assert (late.status_code, late.json()["error"]["code"]) == (503, "draining")
        assert httpx.get(f"{url}/ready").json() == {"status": "draining"}
        asking.join()
        assert said == ["0123456789"]
        assert child.wait(20) == 0


def test_what_outlasts_the_drain_is_cut_off_and_journalled(tmp_path):
    endless = {"FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": "0.2", "FEWSHOT_SERVER_DRAIN_SECONDS": "0.5"}
    with serving(tmp_path, **endless) as (child, url):
        body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 500}], "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as response:
            frames = response.iter_raw()  # kept: a dropped iterator closes the connection
            next(frames)
            turn = response.headers["x-fewshot-id"]
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) == 0
    journal = Journal(open_database(tmp_path / "journal.db"), secret=b"s")
    row = journal.find(turn)
    journal.close()
    assert row is not None
    assert row["replies.outcome"] == "cancelled"


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, env=environ(tmp_path), check=False)
    assert done.returncode == EXIT_CONFIGURATION
    assert f"127.0.0.1:{port}" in done.stderr


def test_ask_uses_the_running_server_and_shows_sources(tmp_path):
    file = tmp_path / "facts.jsonl"
    file.write_text(
        json.dumps({"id": "tea", "title": "Tea", "text": "Green tea is steeped for two minutes."})
    )
    env = environ(tmp_path)
    runner = CliRunner(env=env)
    assert runner.invoke(main, ["ingest", str(file), "--store", "facts"]).exit_code == 0
    with serving(tmp_path, FEWSHOT_ENGINE_ECHO_REPLY="Two minutes [1].") as (_, url):
        done = runner.invoke(
            main, ["ask", "How long is green tea steeped?", "--store", "facts", "--url", url]
        )
        whole = runner.invoke(main, ["ask", "How long?", "--store", "facts", "--url", url, "--json"])
        missing = runner.invoke(main, ["ask", "How long?", "--store", "nope", "--url", url])
    assert done.output.startswith("Two minutes [1].")
    assert "* [1] Tea" in done.output
    assert json.loads(whole.output)["fewshot"]["grounding"] == "grounded"
    assert missing.exit_code == 1
    assert "nope" in missing.output


def test_ask_starts_a_server_when_none_is_running(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = CliRunner(env=environ(tmp_path, FEWSHOT_SERVER_PORT=port)).invoke(main, ["ask", "Hello"])
    assert done.exit_code == 0, done.output
    assert done.output.rstrip().endswith("Hello")


def test_who_comes_before_the_server_does_is_not_turned_away():
    settings = load_settings(environ={}, overrides={"server": {"port": 0}})
    with (
        closing(listen(settings)) as listening,
        socket.create_connection(listening.getsockname(), timeout=5) as early,
    ):
        taken, _ = listening.accept()
        with taken:
            assert taken.getpeername() == early.getsockname()
