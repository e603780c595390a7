"""What the indexer's commands share: options, the catalogue, errors as messages."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from indexer.errors import DatabaseRefused, IndexerError

if TYPE_CHECKING:
    from indexer.catalogue import Catalogue

P = ParamSpec("P")
R = TypeVar("R")

REFUSED = 78  # EX_CONFIG: this installation cannot run, trying again will not help

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="FEWSHOT_DATA_DIR",
    default=Path("~/.local/share/fewshot"),
    show_default="~/.local/share/fewshot",
    help="Where stores and the catalogue are.",
)
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="FEWSHOT_CACHE_DIR",
    default=Path("~/.cache/fewshot"),
    show_default="~/.cache/fewshot",
    help="Where downloaded models are.",
)
embedder_option = click.option(
    "--embedder",
    envvar="FEWSHOT_EMBEDDER",
    default="all-minilm-l6-v2",
    show_default=True,
    help="A model under the cache, a folder, a hub id, or `hash`.",
)


def tells(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an `IndexerError` into its message and an exit code."""

    @wraps(command)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except IndexerError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(REFUSED if isinstance(error, DatabaseRefused) else 1)

    return telling


@contextmanager
def opened_catalogue(data: Path) -> Iterator["Catalogue"]:
    from indexer.catalogue import Catalogue

    catalogue = Catalogue(data.expanduser())
    try:
        yield catalogue
    finally:
        catalogue.close()
