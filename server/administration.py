"""`fewshot keys`, `fewshot models`, `fewshot settings`: what an operator does beside serving."""

import json
import time

import click

from indexer.database import open_database
from server.keys import SCOPES, Keys, read_secret
from server.models import ModelUnavailable, fetch_defaults
from server.settings import Settings, knobs


@click.group()
def keys() -> None:
    """API keys: needed as soon as the server is reachable from other machines."""


@keys.command()
@click.option("--tenant", default="default", show_default=True, help="Whose data the key reaches.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Repeatable; default: infer."
)
@click.option("--days", type=float, help="Days until the key expires; default: never.")
@click.pass_obj
def create(settings: Settings, tenant: str, scopes: tuple[str, ...], days: float | None) -> None:
    """Create a key and print it. It is shown this once."""
    click.echo(_open(settings).create(tenant=tenant, scopes=scopes or ("infer",), days=days))


@keys.command("list")
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List keys by their prefix."""
    for key in _open(settings).list():
        made = time.strftime("%Y-%m-%d", time.localtime(key.created_at))
        state = "revoked" if key.revoked else "active"
        click.echo(f"{key.prefix}  {state:<8} {made}  {key.tenant:<16} {' '.join(sorted(key.scopes))}")


@keys.command()
@click.argument("prefix")
@click.pass_obj
def revoke(settings: Settings, prefix: str) -> None:
    """Revoke the key with this PREFIX; it counts at once."""
    if not _open(settings).revoke(prefix):
        raise click.ClickException(f"no active key {prefix!r}; `fewshot keys list` shows them")
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


def _open(settings: Settings) -> Keys:
    return Keys(open_database(settings.paths.data / "journal.db"), pepper=read_secret(settings.paths.data))
