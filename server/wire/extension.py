"""What OpenAI's API has no word for: the `fewshot` request object and the `file_search` tool in chat."""

from typing import Annotated, Literal

from pydantic import Field

from server.records import Search, SearchMode, WhenEmpty, Wishes
from server.wire.reading import Wire

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
        default={}, description="values of the template's further slots"
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
    citations: Literal["markers", "none"] = "markers"
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
            inspect=self.inspect,
        )


class RankingOptions(Wire):
    # There is one pipeline and it has no reranker yet, so all three names ask for the same thing.
    ranker: Literal["auto", "default-2024-11-15", "none"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class FileSearch(Wire):
    """openai-surface §7.2: the one tool. The server searches before the model speaks."""

    type: Literal["file_search"]
    vector_store_ids: StoreIds
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    ranking_options: RankingOptions = RankingOptions()
    search_mode: SearchMode = "hybrid"

    def search(self, *, required: bool = False) -> Search:
        return Search(
            stores=tuple(self.vector_store_ids),
            top=self.max_num_results,
            mode=self.search_mode,
            threshold=self.ranking_options.score_threshold,
            required=required,
        )


class NamedTool(Wire):
    """`tool_choice` as an object."""

    type: Literal["file_search"]
