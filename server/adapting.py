"""`fewshot adapters`: what an operator does with trained results, through the server or beside it.

A running server does the steps itself, so that the answer is true when the command returns. Without one the
book is written, and servers follow it when they start.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

from indexer.database import open_database
from server.adapters.book import Book, Moved
from server.adapters.names import checked_alias
from server.adapters.registry import Listed
from server.adapters.shelf import Shelf
from server.errors import ServerError
from server.models import ModelUnavailable, served_name
from server.settings import Settings
from server.wire.adapters import adapter_object, promotion_object, step_object

BY = "command"
LOAD_SECONDS = 600.0  # a model with weights of its own starts an engine
URL = click.option("--url", help="Base URL of the server; default: server.host and server.port.")
KEY = click.option("--key", envvar="FEWSHOT_API_KEY", default="none", help="API key, scope admin.")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group()
def adapters() -> None:
    """Trained adapters: take them in, load them into the running server, name them, go back."""


@adapters.command("list")
@click.option("--steps", is_flag=True, help="What was done with them instead, the newest first.")
@URL
@KEY
@JSON
@click.pass_obj
def list_adapters(settings: Settings, steps: bool, url: str | None, key: str, as_json: bool) -> None:
    """List versions: kind, size, state in the server, aliases."""
    path = "/v1/adapters/steps" if steps else "/v1/adapters?order=asc&limit=100"
    there = _ask(settings, url, key, "GET", path)
    if there is None:
        rows = _steps(settings) if steps else _versions(settings)
        there = {"object": "list", "data": rows}
    if as_json:
        click.echo(json.dumps(there, indent=1))
        return
    for row in there["data"]:
        click.echo(_step_line(row) if steps else _line(row))
    if not there["data"]:
        click.echo("none yet; `fewshot adapters add FOLDER` takes one in", err=True)


@adapters.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", help="What to call it; default: what its manifest says.")
@JSON
@click.pass_obj
def add(settings: Settings, folder: Path, name: str | None, as_json: bool) -> None:
    """Check FOLDER, copy it into the data folder and print its name@version. Nothing is loaded yet.

    FOLDER is what training or peft wrote.
    """
    shelf, book = _shelf(settings), _book(settings)
    intake = _tried(shelf.intake)
    artefact = _tried(lambda: intake.from_folder(folder.resolve(), name=name))
    entry = book.add(artefact, by=BY)
    shown = adapter_object(Listed(entry, None, ()), intake.base.name)
    click.echo(json.dumps(shown, indent=1) if as_json else artefact.reference)


@adapters.command()
@click.argument("adapter")
@URL
@KEY
@click.pass_obj
def load(settings: Settings, adapter: str, url: str | None, key: str) -> None:
    """Load ADAPTER (name@version) into the running server. It then answers as MODEL:name@version."""
    done = _ask(settings, url, key, "POST", f"/v1/adapters/{quote(adapter, safe='@')}/load", {})
    if done is None:
        _tried(lambda: _book(settings).want(adapter, True, by=BY))
        _later(f"{adapter} will be loaded")
        return
    click.echo(f"loaded {done['id']} in {done['load_milliseconds'] or 0:.0f} ms; ask for {done['model']}")


@adapters.command()
@click.argument("adapter")
@click.option("--drain-seconds", type=click.FloatRange(0, 3600), default=30.0, show_default=True)
@URL
@KEY
@click.pass_obj
def unload(settings: Settings, adapter: str, drain_seconds: float, url: str | None, key: str) -> None:
    """Take ADAPTER out of the server. Requests that run on it end; new ones are refused."""
    path = f"/v1/adapters/{quote(adapter, safe='@')}/unload"
    done = _ask(settings, url, key, "POST", path, {"drain_seconds": drain_seconds})
    if done is None:
        _tried(lambda: _book(settings).want(adapter, False, by=BY))
        _later(f"{adapter} will not be loaded")
        return
    left = f"; {done['in_flight']} requests still run on it" if done["status"] == "draining" else ""
    click.echo(f"{'draining' if left else 'unloaded'} {done['id']}{left}")


@adapters.command()
@click.argument("adapter")
@click.argument("alias")
@click.option("--reason", help="Kept with the step.")
@URL
@KEY
@click.pass_obj
def promote(
    settings: Settings, adapter: str, alias: str, reason: str | None, url: str | None, key: str
) -> None:
    """Let ALIAS, a name clients use as model, mean ADAPTER from now on. It is loaded first."""
    path = f"/v1/adapters/{quote(adapter, safe='@')}/promote"
    body = {"alias": alias, **({"reason": reason} if reason else {})}
    done = _ask(settings, url, key, "POST", path, body)
    if done is None:
        _tried(lambda: checked_alias(alias, served_name(settings.engine.model)))
        moved: Moved = _tried(lambda: _book(settings).bind(alias, adapter, by=BY, reason=reason))
        done = promotion_object(moved, BY)
        _later("it will be loaded")
    click.echo(f"{done['alias']}: {done['before'] or 'nothing'} → {done['after']}")


@adapters.command()
@click.argument("alias")
@click.option("--reason", help="Kept with the step.")
@URL
@KEY
@click.pass_obj
def rollback(settings: Settings, alias: str, reason: str | None, url: str | None, key: str) -> None:
    """Let ALIAS mean again what it meant before."""
    body = {"alias": alias, **({"reason": reason} if reason else {})}
    done = _ask(settings, url, key, "POST", "/v1/adapters/rollback", body)
    if done is None:
        book = _book(settings)

        def back() -> Moved:
            before = book.predecessor(alias)
            return book.bind(alias, before, by=BY, reason=reason, action="rollback")

        done = promotion_object(_tried(back), BY)
    click.echo(f"{done['alias']}: {done['before']} → {done['after']}")


@adapters.command()
@click.argument("adapter")
@URL
@KEY
@click.pass_obj
def delete(settings: Settings, adapter: str, url: str | None, key: str) -> None:
    """Delete ADAPTER and its files. Not while it is loaded, bound, or could be rolled back to."""
    if _ask(settings, url, key, "DELETE", f"/v1/adapters/{quote(adapter, safe='@')}") is None:
        _tried(lambda: _shelf(settings).remove(_book(settings), adapter, by=BY))
    click.echo(f"deleted {adapter}")


def _ask(
    settings: Settings, url: str | None, key: str, method: str, path: str, body: Any = None
) -> dict[str, Any] | None:
    """The server's answer; None when no server is meant and none runs."""
    base = (url or f"http://{settings.server.host}:{settings.server.port}").rstrip("/").removesuffix("/v1")
    headers = {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.request(method, f"{base}{path}", json=body, headers=headers, timeout=LOAD_SECONDS)
    except httpx.ConnectError:
        if url is None:
            return None
        raise click.ClickException(f"no server answers at {base}; start one with `fewshot serve`") from None
    except httpx.HTTPError as problem:
        raise click.ClickException(f"the server at {base} did not answer: {type(problem).__name__}") from None
    try:
        said: dict[str, Any] = answer.json()
    except ValueError:
        raise click.ClickException(f"what answers at {base} is no Fewshot server") from None
    if answer.status_code != 200:
        raise click.ClickException(said.get("error", {}).get("message", f"status {answer.status_code}"))
    return said


def _tried(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (ServerError, ModelUnavailable) as problem:
        raise click.ClickException(str(problem)) from None


def _steps(settings: Settings) -> list[dict[str, Any]]:
    return [step_object(step) for step in _book(settings).steps()]


def _versions(settings: Settings) -> list[dict[str, Any]]:
    """As the book has them; no engine holds any."""
    state = _book(settings).state()
    rows = []
    for reference, entry in state.entries.items():
        aliases = tuple(sorted(alias for alias, to in state.aliases.items() if to == reference))
        rows.append(adapter_object(Listed(entry, None, aliases), served_name(settings.engine.model)))
    return rows


def _book(settings: Settings) -> Book:
    return Book(open_database(settings.paths.data / "journal.db"), settings.paths.data / "adapters")


def _shelf(settings: Settings) -> Shelf:
    from server.wiring import open_shelf  # opens nothing yet, but knows every part of the server

    return open_shelf(settings)


def _later(what: str) -> None:
    click.echo(f"No server is running: {what} when one starts.", err=True)


def _line(row: dict[str, Any]) -> str:
    size = f"rank {row['rank']}" if row["rank"] else f"{row['length']} tokens" if row["length"] else ""
    words = [
        f"{row['id']:<32}",
        f"{row['kind']:<12}",
        f"{row['status']:<10}",
        f"{size:<11}",
        f"{row['bytes'] / 2**20:8.2f} MB",
        " ".join(row["aliases"]),
    ]
    why = f"  {row['error']}" if row["error"] else ""
    return "  ".join(words).rstrip() + why


def _step_line(row: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at"]))
    moved = f"{row['alias']}: {row['before'] or 'nothing'} → " if row["alias"] else ""
    return f"{at}  {row['action']:<9} {moved}{row['adapter']}  by {row['by']}  {row['reason'] or ''}".rstrip()
