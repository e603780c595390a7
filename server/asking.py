"""`fewshot ask`: one question to a running server, or to one that is started for it."""

import json
from collections.abc import Iterator
from typing import Any

import click
import httpx

from server.reaching import checked, server_for
from server.settings import Settings


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
        body["model"] = model or checked(models)["data"][0]["id"]
        address = f"{base}/v1/chat/completions"
        if as_json:
            click.echo(json.dumps(checked(client.post(address, json=body, headers=headers)), indent=1))
            return
        with client.stream("POST", address, json=body, headers=headers) as response:
            if response.status_code != 200:
                response.read()
                checked(response)
            provenance = print_stream(response.iter_lines())
    print_sources(provenance)


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
