"""`fewshot keys`, `fewshot models`, `fewshot settings`: what an operator does beside serving."""

import json
import time
from dataclasses import asdict
from typing import Any

import click

from indexer.database import open_database
from server.keys import SCOPES, Key, Keys, read_secret
from server.models import ModelUnavailable, fetch_defaults
from server.quotas import Rates
from server.settings import Settings, knobs

COUNT = click.IntRange(min=0)


@click.group()
def keys() -> None:
    """API keys: needed as soon as the server is reachable from other machines."""


@keys.command()
@click.option("--tenant", default="default", show_default=True, help="Whose data the key reaches.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Repeatable; default: infer."
)
@click.option("--name", help="What the key is for, as `fewshot keys list` shows it.")
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), help="Days until it expires; default: never."
)
@click.option("--requests-per-minute", type=COUNT, help="0: no limit; default: limits.requests_per_minute.")
@click.option("--tokens-per-minute", type=COUNT, help="0: no limit; default: limits.tokens_per_minute.")
@click.option("--concurrent", type=COUNT, help="Requests at once. 0: no limit; default: limits.concurrent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def create(
    settings: Settings,
    tenant: str,
    scopes: tuple[str, ...],
    name: str | None,
    days: float | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrent: int | None,
    as_json: bool,
) -> None:
    """Create a key and print it. It is shown this once."""
    rates = Rates(requests_per_minute, tokens_per_minute, concurrent)
    book = _open(settings)
    try:
        made = book.create(tenant=tenant, scopes=scopes or ("infer",), name=name, days=days, rates=rates)
    except ValueError as problem:
        raise click.ClickException(str(problem)) from None
    prefix = made.split("_")[1]
    (known,) = [key for key in book.list() if key.prefix == prefix]
    click.echo(json.dumps({"key": made, **_described(known)}) if as_json else made)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def list_keys(settings: Settings, as_json: bool) -> None:
    """List keys by their prefix: state, tenant, scopes, last use, limits."""
    known = _open(settings).list()
    if as_json:
        click.echo(json.dumps([_described(key) for key in known], indent=1))
        return
    for key in known:
        limits = {name: value for name, value in asdict(key.rates).items() if value is not None}
        used = f"used {_minute(key.used_at)}" if key.used_at else "never used"
        words = [
            f"{key.prefix}  {key.state:<8} {_minute(key.created_at)}  {key.tenant:<16}",
            " ".join(sorted(key.scopes)),
            used,
            *([f"until {_minute(key.expires_at)}"] if key.expires_at else []),
            *(f"{name}={value}" for name, value in limits.items()),
            *([f"({key.name})"] if key.name else []),
        ]
        click.echo("  ".join(words))


@keys.command()
@click.argument("prefix")
@click.pass_obj
def revoke(settings: Settings, prefix: str) -> None:
    """Revoke the key with this PREFIX; it counts at once."""
    if not _open(settings).revoke(prefix):
        raise click.ClickException(f"no key {prefix!r} to revoke; `fewshot keys list` shows them")
    click.echo(f"revoked {prefix}")


@click.group()
def models() -> None:
    """The default models."""


@models.command()
@click.pass_obj
def fetch(settings: Settings) -> None:
    """Bring the default decoder and embedder into the cache. No model hub is asked."""
    try:
        fetch_defaults(settings.paths.cache / "models", click.echo)
    except ModelUnavailable as problem:
        raise click.ClickException(str(problem)) from None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def settings(settings: Settings, as_json: bool) -> None:
    """Show every setting in force, its variable and its meaning."""
    values = settings.model_dump(mode="json")
    if as_json:
        click.echo(json.dumps(values, indent=1))
        return
    for key, name, _, about in knobs():
        section, _, knob = key.partition(".")
        value = values[section][knob]
        click.echo(f"{key} = {'' if value is None else value}\n    {name}: {about}")
    for alias, bound in settings.aliases.items():
        said = bound.model_dump(mode="json", exclude_defaults=True)
        click.echo(f"aliases.{alias} = {json.dumps(said, ensure_ascii=False)}")


def _open(settings: Settings) -> Keys:
    return Keys(open_database(settings.paths.data / "journal.db"), pepper=read_secret(settings.paths.data))


def _described(key: Key) -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "name": key.name,
        "state": key.state,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "created_at": int(key.created_at),
        "expires_at": key.expires_at and int(key.expires_at),
        "revoked_at": key.revoked_at and int(key.revoked_at),
        "last_used_at": key.used_at and int(key.used_at),
        **asdict(key.rates),
    }


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
