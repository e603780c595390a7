"""`fewshot search`. Heavy imports wait for the call."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from indexer.commands.options import cache_option, data_option, tells

if TYPE_CHECKING:
    from indexer.filters import Filter
    from indexer.records import Hits

SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("query")
@click.option("--store", "stores", required=True, multiple=True, help="Name or id; may be repeated.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--mode", default="hybrid", show_default=True, type=click.Choice(["hybrid", "dense", "keyword"])
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help="'year >= 2020', 'lang in de,en', or JSON in OpenAI's grammar; repeated: all must hold.",
)
@click.option("--threshold", default=0.0, type=SHARE, help="Leave out hits scored below it.")
@click.option("--per-file", type=click.IntRange(1), help="Most hits of one document.")
@click.option("--mmr", type=SHARE, help="Maximal marginal relevance: 1 only relevance, 0 only difference.")
@click.option(
    "--lean", type=SHARE, help="Weight of the embedding against the words; 0.5 where nobody says otherwise."
)
@click.option("--rerank", is_flag=True, help="Read the 50 best again with --reranker.")
@click.option("--reranker", envvar="FEWSHOT_RERANKER", help="A cross-encoder's folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for machines.")
@data_option
@cache_option
@click.option("--embedder", envvar="FEWSHOT_EMBEDDER", help="A model's folder, for stores built from one.")
@tells
def search(
    query: str,
    stores: tuple[str, ...],
    top: int,
    mode: str,
    filters: tuple[str, ...],
    threshold: float,
    per_file: int | None,
    mmr: float | None,
    lean: float | None,
    rerank: bool,
    reranker: str | None,
    as_json: bool,
    data: Path,
    cache: Path,
    embedder: str | None,
) -> None:
    """Find the passages that answer QUERY, in the model each store was built with."""
    from indexer.embedders import Embedders
    from indexer.embedding import open_embedder
    from indexer.reranking import open_reranker
    from indexer.search import Mode, Refinement, Searcher

    refine = Refinement(
        filter=_all_of(filters),
        threshold=threshold,
        per_file=per_file,
        weights=None if lean is None else (lean, 1 - lean),
        diversity=None if mmr is None else 1 - mmr,
        rerank=rerank,
    )
    chosen: Mode = next(known for known in get_args(Mode) if known == mode)
    models = cache.expanduser() / "models"
    given = [open_embedder(embedder, models)] if embedder and mode != "keyword" else []
    again = open_reranker(Path(reranker).expanduser()) if rerank and reranker else None
    searcher = Searcher(data.expanduser(), Embedders(models, *given), again)
    try:
        hits = searcher.search(query, stores, top=top, mode=chosen, refine=refine)
    finally:
        searcher.close()
    if as_json:
        found = [hit._asdict() for hit in hits.hits]
        said = {"query": query, "generations": dict(hits.generations), "hits": found}
        click.echo(json.dumps(said, ensure_ascii=False))
    else:
        _print(hits)


def _all_of(filters: tuple[str, ...]) -> "Filter | None":
    from indexer.filters import Compound, read_filter

    read = [read_filter(text, f"--filter[{at}]") for at, text in enumerate(filters)]
    return read[0] if len(read) == 1 else Compound("and", tuple(read)) if read else None


def _print(hits: "Hits") -> None:
    for number, hit in enumerate(hits.hits, start=1):
        page = f", page {hit.page_start}" if hit.page_start is not None else ""
        row = f" [{hit.external_id}]" if hit.external_id is not None else ""
        click.echo(f"{number}. {hit.score:.3f}  {hit.title} ({hit.filename}{row}{page})")
        click.echo("   " + " ".join(f"{hit.lead} {hit.text}".split())[:200])
    if not hits.hits:
        click.echo("nothing found")
