"""The tools `search` and `ask` as agents see them: arguments in, structured results out. No MCP in here."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field

from indexer.filters import parse_filter
from indexer.ownership import StoreStatus
from server.aliases import Alias
from server.records import Reply, Search
from server.sources import Citation, SourceUse
from server.wire.extension import StoreIds, check_filter
from server.wire.fields import MCP_ASK, MCP_SEARCH
from server.wire.provenance import citation_object, source_object
from server.wire.reading import Wire, read_body
from server.wire.shapes import CITATION, COUNT, SOURCE, TEXT, Shape, made_of, many, maybe, one_of

MOST_SHOWN = 20  # stores that the description names
LONGEST_ABOUT = 200  # characters of what a store says of itself
Question = Annotated[str, Field(min_length=1, max_length=32_768)]


class SearchArguments(Wire):
    query: Question = Field(description="what to look for, in plain words")
    vector_store_ids: StoreIds = Field(description="names or ids of the stores to search together")
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    filters: Annotated[dict[str, Any], BeforeValidator(check_filter)] | None = Field(
        default=None,
        description="{type: eq|ne|gt|gte|lt|lte|in|nin, key, value} or {type: and|or, filters: […]}, on the "
        "attributes of documents",
    )

    def search(self, tenant: str) -> Search:
        return Search(
            stores=tuple(self.vector_store_ids),
            top=self.max_num_results,
            filter=None if self.filters is None else parse_filter(self.filters),
            tenant=tenant,
        )


class AskArguments(Wire):
    question: Question
    vector_store_ids: StoreIds | None = Field(
        default=None, description="names or ids of the stores that the answer is to be found in and cite"
    )
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="default: the base model"
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, description="longest answer")

    def chat_body(self, base: str) -> bytes:
        """The chat request that this is: an alias, a lock, a limit count here as they do there."""
        body: dict[str, Any] = {
            "model": self.model or base,
            "messages": [{"role": "user", "content": self.question}],
            "max_tokens": self.max_tokens,
            "fewshot": {"vector_store_ids": self.vector_store_ids},
        }
        return orjson.dumps(body)


def read_search(arguments: Mapping[str, Any]) -> SearchArguments:
    """Raises InvalidValue, MissingParameter or UnsupportedParameter, as a route does."""
    return read_body(_bytes(arguments), SearchArguments, MCP_SEARCH)[0]


def read_ask(arguments: Mapping[str, Any]) -> AskArguments:
    """Raises InvalidValue, MissingParameter or UnsupportedParameter, as a route does."""
    return read_body(_bytes(arguments), AskArguments, MCP_ASK)[0]


def _bytes(arguments: Mapping[str, Any]) -> bytes:
    """JSON that lone surrogates and NaN survive, so that reading it refuses them."""
    return json.dumps(arguments).encode()


PASSAGE: Shape = {
    **SOURCE,
    "required": [*(name for name in SOURCE["required"] if name not in ("used", "cited")), "title", "text"],
    "properties": {
        **{name: shape for name, shape in SOURCE["properties"].items() if name not in ("used", "cited")},
        "title": TEXT,
        "text": TEXT,
        "attributes": {"type": "object"},
    },
}
FOUND = made_of(results=many(PASSAGE))
QUOTED: Shape = {
    **CITATION,
    "required": [*CITATION["required"], "quote"],
    "properties": {**CITATION["properties"], "quote": maybe(TEXT)},
}
ANSWERED = made_of(
    id=TEXT,
    model=TEXT,
    answer=TEXT,
    finish_reason=one_of("stop", "length"),
    grounding=one_of("not_requested", "grounded", "ungrounded", "refused"),
    citations=many(QUOTED),
    sources=many(PASSAGE),
    usage=made_of(prompt_tokens=COUNT, completion_tokens=COUNT),
)
SEARCH_INPUT = SearchArguments.model_json_schema()
ASK_INPUT = AskArguments.model_json_schema()


def about_stores(stores: Sequence[StoreStatus], *, more: bool) -> str:
    """What an agent must know to name one; only ever the caller's own stores, and common ones."""
    lines = [f"- {one.store.name}: {_about(one)}" for one in stores[:MOST_SHOWN]]
    if more:
        lines.append("- and others, which GET /v1/vector_stores lists")
    return "\n".join(["Stores:", *lines]) if lines else "There are no stores yet."


def about_models(base: str, aliases: Mapping[str, Alias]) -> str:
    names = [f"- {base}: the base model"]
    for alias in aliases.values():
        searched = f", which searches {', '.join(alias.vector_stores)}" if alias.vector_stores else ""
        names.append(f"- {alias.name}: an alias{searched}")
    return "\n".join(["Models:", *names])


def _about(one: StoreStatus) -> str:
    said = (one.description or one.label).strip()[:LONGEST_ABOUT]
    return " ".join(f"{said} ({one.files['completed']} files)".split())


def found(sources: Sequence[SourceUse]) -> dict[str, Any]:
    """What `search` answers with, best first."""
    return {"results": [_passage(source, n) for n, source in enumerate(sources, 1)]}


def found_text(sources: Sequence[SourceUse]) -> str:
    """The same for a reader of text alone."""
    if not sources:
        return "Nothing was found."
    return "\n\n".join(f"[{n}] {source.title}\n{source.text}" for n, source in enumerate(sources, 1))


def answered(reply: Reply) -> dict[str, Any]:
    """What `ask` answers with."""
    (choice,) = reply.choices
    plan = reply.plan
    return {
        "id": plan.turn.id,
        "model": plan.turn.model,
        "answer": choice.text,
        "finish_reason": choice.finish,
        "grounding": plan.grounding,
        "citations": [{**citation_object(one), "quote": _quote(one)} for one in choice.citations],
        "sources": [_passage(source, source.n) for source in plan.sources if source.used],
        "usage": {
            "prompt_tokens": reply.usage.prompt_tokens,
            "completion_tokens": reply.usage.completion_tokens,
        },
    }


def answered_text(reply: Reply) -> str:
    """The answer, and below it the sources that it cites."""
    (choice,) = reply.choices
    cited = {one.source.n: one.source for one in choice.citations}
    lines = [f"[{n}] {source.title} ({source.filename})" for n, source in sorted(cited.items())]
    return "\n".join([choice.text, *(["", "Sources:"] if lines else []), *lines])


def _quote(citation: Citation) -> str | None:
    """The words of the source that were found to support the sentence; None where only the chunk is known."""
    source = citation.source
    if citation.check != "span":
        return None
    return source.text[citation.char_start - source.char_start : citation.char_end - source.char_start]


def _passage(source: SourceUse, n: int) -> dict[str, Any]:
    shown = source_object(source, cited=False, text=True)
    del shown["used"], shown["cited"]
    return {**shown, "n": n, "attributes": dict(source.attributes)}
