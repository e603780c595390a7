"""`fewshot ask`: one question to a running server, or to one that is started for it."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import httpx

from server.settings import Settings

START_SECONDS = 300.0
LISTENS = re.compile(r"listens on (http://\S+)/v1")


@click.command()
@click.argument("question")
@click.option("--model", help="Model or alias; default: the base model.")
@click.option("--store", "stores", multiple=True, help="Store to search, name or id; repeatable.")
@click.option("--template", help="Template, name or name@version.")
@click.option("--demos", type=click.IntRange(0, 32), help="How many worked examples.")
@click.option("--top", type=click.IntRange(1, 50), help="How many chunks to retrieve.")
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--url", help="Base URL of the server; default: server.host and server.port of the settings.")
@click.option("--key", envvar="FEWSHOT_API_KEY", default="none", help="API key (FEWSHOT_API_KEY).")
@click.option("--json", "as_json", is_flag=True, help="The whole response as JSON, not streamed.")
@click.pass_obj
def ask(
    settings: Settings,
    question: str,
    model: str | None,
    stores: tuple[str, ...],
    template: str | None,
    demos: int | None,
    top: int | None,
    max_tokens: int,
    url: str | None,
    key: str,
    as_json: bool,
) -> None:
    """Ask QUESTION and print the answer with its sources."""
    wishes = {"template": template, "demos": demos}
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "stream": not as_json,
        "fewshot": {name: value for name, value in wishes.items() if value is not None},
    }
    if stores and top:
        body["tools"] = [{"type": "file_search", "vector_store_ids": list(stores), "max_num_results": top}]
    elif stores:
        body["fewshot"]["vector_store_ids"] = list(stores)
    with server_for(settings, url) as base, httpx.Client(timeout=settings.server.deadline_seconds) as client:
        headers = {"authorization": f"Bearer {key}"}
        models = client.get(f"{base}/v1/models", headers=headers)
        body["model"] = model or _checked(models)["data"][0]["id"]
        address = f"{base}/v1/chat/completions"
        if as_json:
            click.echo(json.dumps(_checked(client.post(address, json=body, headers=headers)), indent=1))
            return
        with client.stream("POST", address, json=body, headers=headers) as response:
            if response.status_code != 200:
                response.read()
                _checked(response)
            provenance = print_stream(response.iter_lines())
    print_sources(provenance)


@contextmanager
def server_for(settings: Settings, url: str | None) -> Iterator[str]:
    """The address of a ready server: the one named, the settings' one, or one started for the question."""
    base = (url or f"http://{settings.server.host}:{settings.server.port}").rstrip("/").removesuffix("/v1")
    if wait_until_ready(base, seconds=0.0 if url is None else 10.0):
        yield base
        return
    if url is not None:
        raise click.ClickException(f"no server answers at {base}; start one with `fewshot serve`")
    click.echo("No server is running; starting one for this question …", err=True)
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    reader = None
    try:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line.rstrip())
            if found := LISTENS.search(line):
                break
        else:
            raise click.ClickException("the server did not start:\n" + "\n".join(lines[-5:]))
        reader = drain(child)
        if not wait_until_ready(found.group(1), seconds=START_SECONDS, child=child):
            raise click.ClickException("the server did not become ready; `fewshot serve` shows why")
        yield found.group(1)
    finally:
        child.terminate()
        child.wait(60)
        if reader is not None:
            reader.join()
        if child.stderr is not None:
            child.stderr.close()


def print_stream(lines: Iterator[str]) -> dict[str, Any]:
    """Print the deltas of an event stream as they come; the last `fewshot` object seen."""
    provenance: dict[str, Any] = {}
    for line in lines:
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            raise click.ClickException(chunk["error"]["message"])
        provenance = chunk.get("fewshot") or provenance
        for choice in chunk["choices"]:
            click.echo(choice["delta"].get("content") or "", nl=False)
    click.echo()
    return provenance


def print_sources(provenance: dict[str, Any]) -> None:
    used = [source for source in provenance.get("sources", []) if source["used"]]
    if not used:
        return
    click.echo("\nSources" + ("" if any(source["cited"] for source in used) else " (none cited)"))
    for source in used:
        mark = "*" if source["cited"] else " "
        where = (
            source["title"]
            if source["title"] == source["filename"]
            else f"{source['title']} ({source['filename']})"
        )
        click.echo(f"{mark} [{source['n']}] {where}  {source['score']:.2f}")


def drain(child: "subprocess.Popen[str]") -> threading.Thread:
    """Keep reading what the server says, so that it never blocks on a full pipe."""
    assert child.stderr is not None
    reader = threading.Thread(target=child.stderr.read, daemon=True)
    reader.start()
    return reader


def wait_until_ready(base: str, *, seconds: float, child: "subprocess.Popen[str] | None" = None) -> bool:
    """Whether the server at `base` became ready in time, and its process, if given, lived that long."""
    until = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{base}/ready", timeout=5.0).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        if time.monotonic() >= until or (child is not None and child.poll() is not None):
            return False
        time.sleep(0.25)


def _checked(response: httpx.Response) -> dict[str, Any]:
    try:
        body: dict[str, Any] = response.json()
    except ValueError:
        raise click.ClickException(f"the server answered {response.status_code} without JSON") from None
    if response.status_code != 200:
        raise click.ClickException(body.get("error", {}).get("message", f"status {response.status_code}"))
    return body
