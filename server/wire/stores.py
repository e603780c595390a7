"""Request bodies of vector stores, their files and file batches (openai-surface §9)."""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from indexer.attachments import Wish
from indexer.chunking import Chunking
from indexer.filters import parse_filter
from server.records import Search, SearchMode
from server.wire.extension import RankingOptions, check_filter
from server.wire.fields import (
    FILE_BATCHES,
    STORE_CHANGES,
    STORE_FILE_CHANGES,
    STORE_FILES,
    STORE_SEARCH,
    STORES,
)
from server.wire.reading import Off, Wire, fault, read_body, read_json

MOST_FILES = 2_000
Id = Annotated[str, Field(min_length=1, max_length=128)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Key = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=512)]
Number = Annotated[int, Field(ge=-(2**53), le=2**53)]  # beyond, a filter could not tell neighbours apart
_KINDS = {str: "<string>", bool: "<boolean>", int: "<integer>", float: "<number>"}
Value = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[bool, Tag("<boolean>")]
    | Annotated[Number, Tag("<integer>")]
    | Annotated[float, Tag("<number>")],
    Discriminator(
        lambda value: _KINDS.get(type(value)),
        custom_error_type="attribute",
        custom_error_message="A string, a number, true or false is possible",
    ),
    # A union by tags is described as one of its parts alone, but every integer is a number too.
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 512}, {"type": ["boolean", "number"]}]}),
]
Attributes = Annotated[dict[Key, Value], Field(max_length=16)]
Metadata = Annotated[dict[Key, Text], Field(max_length=16)]
FileIds = Annotated[list[Id], Field(max_length=MOST_FILES)]


class StaticChunking(Wire):
    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4_096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _overlaps_by_half_at_most(self) -> Self:
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise fault("at most half of max_chunk_size_tokens", at=".chunk_overlap_tokens")
        return self


class ChunkingStrategy(Wire):
    type: Literal["auto", "static"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def _has_its_numbers(self) -> Self:
        if (self.type == "static") != (self.static is not None):
            raise fault("type static needs it, type auto has none", at=".static")
        return self

    def chunking(self) -> Chunking:
        if self.static is None:
            return Chunking()
        return Chunking("static", self.static.max_chunk_size_tokens, self.static.chunk_overlap_tokens)


class StoreExpiry(Wire):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class StoreExtension(Wire):
    embedding_model: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class StoreRequest(Wire):
    name: Name | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    file_ids: FileIds = Field(default_factory=list)
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata = Field(default_factory=dict)
    fewshot: StoreExtension = StoreExtension()

    @model_validator(mode="after")
    def _cuts_files_it_has(self) -> Self:
        if self.chunking_strategy is not None and not self.file_ids:
            raise fault("needs file_ids: it says how those are cut", at=".chunking_strategy")
        return self

    def wishes(self) -> list[Wish]:
        cut = None if self.chunking_strategy is None else self.chunking_strategy.chunking()
        return [Wish(file_id, chunking=cut) for file_id in self.file_ids]

    def values(self) -> dict[str, Any]:
        """As `ownership.create` takes them."""
        return {
            "label": self.name,
            "description": self.description,
            "metadata": self.metadata,
            "expires_days": None if self.expires_after is None else self.expires_after.days,
        }


class StoreChange(Wire):
    name: Name | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class StoreFileExtension(Wire):
    replaces: Id | None = Field(
        default=None, description="the file that leaves the store in the moment this one can be found"
    )


class StoreFileRequest(Wire):
    file_id: Id
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None
    fewshot: StoreFileExtension = StoreFileExtension()

    def wish(self) -> Wish:
        cut = None if self.chunking_strategy is None else self.chunking_strategy.chunking()
        return Wish(self.file_id, self.attributes, cut, self.fewshot.replaces)


class StoreFileChange(Wire):
    attributes: Attributes


class BatchFile(Wire):
    file_id: Id
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class FileBatchRequest(Wire):
    file_ids: FileIds = Field(default_factory=list)
    files: Annotated[list[BatchFile], Field(max_length=MOST_FILES)] = Field(default_factory=list)
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def _names_files_once(self) -> Self:
        if bool(self.file_ids) == bool(self.files):
            raise fault("send either file_ids or files, with at least one in it", at=".file_ids")
        for name in ("attributes", "chunking_strategy"):
            if self.files and getattr(self, name) is not None:
                raise fault("belongs into each of files", at=f".{name}")
        return self

    def wishes(self) -> list[Wish]:
        files = self.files or [
            BatchFile(file_id=one, attributes=self.attributes, chunking_strategy=self.chunking_strategy)
            for one in self.file_ids
        ]
        return [
            Wish(
                one.file_id,
                one.attributes,
                None if one.chunking_strategy is None else one.chunking_strategy.chunking(),
            )
            for one in files
        ]


Query = Annotated[str, Field(min_length=1, max_length=32_768)]
Queries = Annotated[list[Query], Field(min_length=1, max_length=16)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StoreSearchRequest(Wire):
    query: Annotated[
        Queries,
        BeforeValidator(_listed, json_schema_input_type=Query | Queries),
    ]
    filters: Annotated[dict[str, Any], BeforeValidator(check_filter)] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: Off = False
    search_mode: SearchMode = "hybrid"
    max_results_per_file: Annotated[int, Field(ge=1, le=50)] | None = None

    @model_validator(mode="after")
    def _weighs_legs_it_has(self) -> Self:
        if self.ranking_options.hybrid_search and self.search_mode != "hybrid":
            raise fault(
                f"search_mode {self.search_mode} has one leg, so there is nothing to weigh",
                at=".ranking_options.hybrid_search",
            )
        return self

    def search(self, store_id: str, tenant: str) -> Search:
        ranking = self.ranking_options
        weighed = ranking.hybrid_search
        return Search(
            stores=(store_id,),
            top=self.max_num_results,
            mode=self.search_mode,
            filter=None if self.filters is None else parse_filter(self.filters),
            threshold=ranking.score_threshold,
            per_file=self.max_results_per_file,
            weights=None if weighed is None else (weighed.embedding_weight, weighed.text_weight),
            rerank=ranking.ranker != "none",
            tenant=tenant,
        )


def read_store(body: bytes, unknown_fields: str = "refuse") -> StoreRequest:
    """No body at all is an empty one: every field is optional."""
    return read_body(body or b"{}", StoreRequest, STORES, unknown_fields)[0]


def read_store_change(body: bytes, unknown_fields: str = "refuse") -> dict[str, Any]:
    """Columns to set, as `ownership.change` takes them; null clears."""
    asked, _ = read_body(body or b"{}", StoreChange, STORE_CHANGES, unknown_fields)
    given = read_json(body or b"{}")
    values: dict[str, Any] = {}
    if "name" in given:
        values["label"] = asked.name
    if "metadata" in given:
        values["metadata"] = asked.metadata or {}
    if "expires_after" in given:
        values["expires_days"] = None if asked.expires_after is None else asked.expires_after.days
    return values


def read_store_file(body: bytes, unknown_fields: str = "refuse") -> StoreFileRequest:
    return read_body(body, StoreFileRequest, STORE_FILES, unknown_fields)[0]


def read_store_file_change(body: bytes, unknown_fields: str = "refuse") -> StoreFileChange:
    """`{"attributes": null}` clears them."""
    given = read_json(body)
    if isinstance(given, dict) and "attributes" in given and given["attributes"] is None:
        body = orjson.dumps({**given, "attributes": {}})
    return read_body(body, StoreFileChange, STORE_FILE_CHANGES, unknown_fields)[0]


def read_file_batch(body: bytes, unknown_fields: str = "refuse") -> FileBatchRequest:
    return read_body(body, FileBatchRequest, FILE_BATCHES, unknown_fields)[0]


def read_store_search(body: bytes, unknown_fields: str = "refuse") -> StoreSearchRequest:
    return read_body(body, StoreSearchRequest, STORE_SEARCH, unknown_fields)[0]
