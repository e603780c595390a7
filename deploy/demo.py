"""`make demo`: from nothing to a cited answer of real documents, through the endpoint a client would use.

Fetches the default models once, ingests 120 abstracts of medical studies (deploy/demo/README.md), starts the
server, asks, and on a terminal keeps serving until Ctrl-C.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import click
import httpx

from server.asking import print_sources, print_stream
from server.reaching import LISTENS, START_SECONDS, drain, wait_until_ready
from server.settings import Settings, load_settings

HERE = Path(__file__).resolve().parent
CORPUS, EXAMPLES = HERE / "demo" / "abstracts.jsonl", HERE / "demo" / "examples.jsonl"
STORE = "demo"
QUESTIONS: tuple[tuple[str, dict[str, object]], ...] = (
    ("How does music change stress in ventilated patients?", {"vector_store_ids": [STORE], "demos": 2}),
    ("Do lecture VODcasts affect lecture attendance of students?", {"vector_store_ids": [STORE]}),
)


def main() -> int:
    settings = load_settings()
    began = time.monotonic()
    fewshot("models", "fetch")
    say("Ingesting 120 abstracts; what is unchanged since last time is skipped …")
    fewshot("ingest", str(CORPUS), "--store", STORE)
    server, url = start(settings)
    try:
        say(f"The server is ready {time.monotonic() - began:.0f} s after the start of the demo.")
        for question, wishes in QUESTIONS:
            ask(settings, url, question, wishes)
        say(f"""
Base URL: {url}/v1   (any API key; model {model_of(url)}; store {STORE})
  curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model_of(url)}", "fewshot": {{"vector_store_ids": ["{STORE}"]}},
         "messages": [{{"role": "user", "content": "Does music influence stress?"}}]}}'""")
        if sys.stdin.isatty():
            say("Serving until Ctrl-C.")
            server.wait()
        else:
            say("Not on a terminal, so the server stops here; `make serve` starts it again.")
    except KeyboardInterrupt:
        say("")
    finally:
        server.terminate()
        server.wait(60)
    return 0


def fewshot(*arguments: str) -> None:
    """One command of ours, shown as it works; ends the demo when it fails."""
    done = subprocess.run([sys.executable, "-m", "server.cli", *arguments], check=False)
    if done.returncode:
        raise SystemExit(f"`fewshot {' '.join(arguments)}` failed; the demo stops here")


def start(settings: Settings) -> tuple["subprocess.Popen[str]", str]:
    """The server, once it answers questions, and its address: the port of the settings, or a free one."""
    env = {"FEWSHOT_PATHS_DEMOS": str(EXAMPLES), **os.environ}
    for port in (settings.server.port, 0):
        command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port)]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := LISTENS.search(line):
                say("Starting the engine (about a minute on two cores) …")
                drain(server)
                if not wait_until_ready(found[1], seconds=START_SECONDS, child=server):
                    raise SystemExit("the engine did not start; `fewshot serve` shows why")
                return server, found[1]
        server.wait()
        if "cannot listen" not in "".join(lines):
            raise SystemExit("the server did not start:\n" + "".join(lines[-5:]))
        say(f"Port {port} is taken; using a free one.")
    raise SystemExit("no port to listen on")


def ask(settings: Settings, url: str, question: str, wishes: dict[str, object]) -> None:
    extra = f", {wishes['demos']} worked examples" if "demos" in wishes else ""
    say(f"\n> {question}   (store {STORE}{extra})")
    body = {
        "model": model_of(url),
        "messages": [{"role": "user", "content": question}],
        "stream": True,
        "max_tokens": 120,
        "fewshot": wishes,
    }
    timeout = settings.server.deadline_seconds
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=timeout) as response:
        if response.status_code != 200:
            raise SystemExit(response.read().decode())
        provenance = print_stream(response.iter_lines())
    print_sources(provenance)


def model_of(url: str) -> str:
    name: str = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    return name


def say(line: str) -> None:
    click.echo(line)


if __name__ == "__main__":
    raise SystemExit(main())
