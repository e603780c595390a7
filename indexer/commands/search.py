"""`fewshot search`. Heavy imports wait for the call."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from indexer.commands.options import cache_option, data_option, embedder_option, tells


@click.command()
@click.argument("query")
@click.option("--store", "stores", required=True, multiple=True, help="Name or id; may be repeated.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--mode", default="hybrid", show_default=True, type=click.Choice(["hybrid", "dense", "keyword"])
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for machines.")
@data_option
@cache_option
@embedder_option
@tells
def search(
    query: str,
    stores: tuple[str, ...],
    top: int,
    mode: str,
    as_json: bool,
    data: Path,
    cache: Path,
    embedder: str,
) -> None:
    """Find the passages that answer QUERY."""
    from indexer.embedding import open_embedder
    from indexer.search import Mode, Searcher

    chosen: Mode = next(known for known in get_args(Mode) if known == mode)
    name = "hash" if mode == "keyword" else embedder  # that mode embeds nothing: no model is needed
    searcher = Searcher(data.expanduser(), open_embedder(name, cache.expanduser() / "models"))
    try:
        hits = searcher.search(query, stores, top=top, mode=chosen)
    finally:
        searcher.close()
    if as_json:
        found = [asdict(hit) for hit in hits.hits]
        click.echo(
            json.dumps(
                {"query": query, "generations": dict(hits.generations), "hits": found}, ensure_ascii=False
            )
        )
        return
    for number, hit in enumerate(hits.hits, start=1):
        page = f", page {hit.page_start}" if hit.page_start is not None else ""
        row = f" [{hit.external_id}]" if hit.external_id is not None else ""
        click.echo(f"{number}. {hit.score:.3f}  {hit.title} ({hit.filename}{row}{page})")
        click.echo("   " + " ".join(hit.text.split())[:200])
    if not hits.hits:
        click.echo("nothing found")
