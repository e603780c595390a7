"""What OpenAI's API has no word for: the `fewshot` request object and the `file_search` tool in chat."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from indexer.errors import FilterInvalid
from indexer.filters import parse_filter
from prompts.records import WhenEmpty
from server.records import Markers, Search, SearchMode, Wishes
from server.wire.reading import EMPTY_OBJECT, Wire, fault

FILTERS = "tools[0].filters"  # where a filter stands, until the place of its tool is known

StoreIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=8)
]


class FewshotRequest(Wire):
    """openai-surface §10.1."""

    vector_store_ids: StoreIds | None = Field(default=None, description="search these with default options")
    template: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="`name` or `name@version`; a bare name is its current version"
    )
    variables: Annotated[dict[str, str], Field(max_length=16)] = Field(
        default_factory=dict,
        json_schema_extra=EMPTY_OBJECT,
        description="values of the template's further slots",
    )
    demos: Annotated[int, Field(ge=0, le=32)] | None = Field(
        default=None, description="how many worked examples"
    )
    unit: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="experiment unit"
    )
    experiment: Literal["auto", "off"] = Field(
        default="auto", description="off: the alias's control, not counted"
    )
    when_empty: WhenEmpty | None = Field(default=None, description="when a search finds nothing")
    refusal_text: Annotated[str, Field(max_length=1_000)] | None = None
    citations: Markers | None = Field(
        default=None,
        description="default: markers; links: and a Markdown list of the cited sources at the end",
    )
    unsupported: bool = Field(
        default=False, description="flag the sentences that no source of the prompt words (needs n = 1)"
    )
    rewrite_query: bool | None = Field(
        default=None,
        description="search for a follow-up question as it stands (false), or made to stand alone (true)",
    )
    inspect: bool = Field(default=False, description="show the prompt as sent to the model")

    def wishes(self) -> Wishes:
        return Wishes(
            template=self.template,
            variables=self.variables,
            demos=self.demos,
            unit=self.unit,
            experiment=self.experiment,
            when_empty=self.when_empty,
            refusal_text=self.refusal_text,
            citations=self.citations,
            unsupported=self.unsupported,
            rewrite_query=self.rewrite_query,
            inspect=self.inspect,
        )


UNEXTENDED = FewshotRequest()  # of all who say nothing of it
UNWISHED = UNEXTENDED.wishes()


def check_filter(value: Any) -> Any:
    """The filter as it came. Raises PydanticCustomError with all that is wrong, at the place of the first."""
    try:
        parse_filter(value, FILTERS)
    except FilterInvalid as refusal:
        first, *others = refusal.problems
        said = "; ".join([first.message, *(f"{at} {message}" for at, message in others)])
        raise fault(said, at=first.at.removeprefix(FILTERS), kind="filter") from None
    return value


class HybridSearch(Wire):
    embedding_weight: Annotated[float, Field(ge=0)]
    text_weight: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        if not self.embedding_weight and not self.text_weight:
            raise fault("One of the weights must be above 0", at=".embedding_weight")
        return self


class RankingOptions(Wire):
    ranker: Literal["auto", "default-2024-11-15", "none"] = Field(
        default="auto", description="none: without the reranker, where the operator set one up"
    )
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    hybrid_search: HybridSearch | None = Field(default=None, description="which leg to lean on")


class FileSearch(Wire):
    """openai-surface §7.2. The server searches before the model speaks."""

    type: Literal["file_search"]
    vector_store_ids: StoreIds
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    max_results_per_file: Annotated[int, Field(ge=1, le=50)] | None = Field(
        default=None, description="of one document; each row of a JSONL file is one"
    )
    filters: Annotated[dict[str, Any], BeforeValidator(check_filter)] | None = Field(
        default=None, description="{type: eq|ne|gt|gte|lt|lte|in|nin, key, value} or {type: and|or, filters}"
    )
    ranking_options: RankingOptions = RankingOptions()
    search_mode: SearchMode = "hybrid"

    @model_validator(mode="after")
    def _weighs_legs_it_has(self) -> Self:
        if self.ranking_options.hybrid_search and self.search_mode != "hybrid":
            raise fault(
                f"search_mode {self.search_mode} has one leg, so there is nothing to weigh",
                at=".ranking_options.hybrid_search",
            )
        return self

    def search(self, *, required: bool = False, at: str = FILTERS) -> Search:
        ranking = self.ranking_options
        weighed = ranking.hybrid_search
        return Search(
            stores=tuple(self.vector_store_ids),
            top=self.max_num_results,
            mode=self.search_mode,
            filter=None if self.filters is None else parse_filter(self.filters, at),
            threshold=ranking.score_threshold,
            per_file=self.max_results_per_file,
            weights=None if weighed is None else (weighed.embedding_weight, weighed.text_weight),
            rerank=ranking.ranker != "none",
            required=required,
        )


def search_asked(
    tool: FileSearch | None, extension: FewshotRequest, *, wanted: bool, required: bool, at: str
) -> Search:
    """The retrieval asked for; without stores there is none, unless a template or alias brings some.

    `at` is where the tool's filter stands. Raises PydanticCustomError where stores are named twice.
    """
    if tool and extension.vector_store_ids:
        raise fault("Name stores here or in a file_search tool, not in both", at="fewshot.vector_store_ids")
    if not wanted:
        return Search(off=True)
    if tool:
        return tool.search(required=required, at=at)
    return Search(stores=tuple(extension.vector_store_ids or ()), required=required)
