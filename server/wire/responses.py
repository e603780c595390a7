"""`POST /v1/responses`: body → what is asked, Reply → response object (openai-surface §7)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from prompts.records import Message
from server.calling import Calling
from server.errors import InvalidValue
from server.records import Turn
from server.wire.aliases import bound
from server.wire.chat import TemplateKwargs
from server.wire.fields import RESPONSES
from server.wire.generation import HARMLESS, Asked, turn_of
from server.wire.reading import EMPTY_LIST, EMPTY_OBJECT, Context, Off, Wire, fault, read_body
from server.wire.response_items import Input, messages_of, shown_items
from server.wire.schemas import JsonSchema
from server.wire.tools import ResponseToolChoice, ResponseTools, calling_asked, searching_asked

RESULTS, LOGPROBS = "file_search_call.results", "message.output_text.logprobs"
INCLUDABLE = rf"{HARMLESS}|^(file_search_call\.results|message\.output_text\.logprobs)$"


class StoredPrompt(Wire):
    """A template of the library by OpenAI's words for one."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    version: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    variables: Annotated[dict[str, str], Field(max_length=16)] = Field(
        default_factory=dict, json_schema_extra=EMPTY_OBJECT
    )

    @property
    def template(self) -> str:
        return self.id if self.version is None else f"{self.id}@{self.version}"


class PlainFormat(Wire):
    type: Literal["text", "json_object"] = "text"

    def wanted(self) -> dict[str, Any] | None:
        """None for text, {} for any JSON object."""
        return None if self.type == "text" else {}


class SchemaFormat(JsonSchema):
    type: Literal["json_schema"]

    def wanted(self) -> dict[str, Any]:
        return self.schema_


def _format(value: Any) -> str:
    return "<schema>" if isinstance(value, dict) and value.get("type") == "json_schema" else "<plain>"


Format = Annotated[
    Annotated[PlainFormat, Tag("<plain>")] | Annotated[SchemaFormat, Tag("<schema>")],
    Discriminator(
        lambda value: (
            "<schema>" if isinstance(value, dict) and value.get("type") == "json_schema" else "<plain>"
        )
    ),
]


class Text(Wire):
    format: Format = PlainFormat()
    verbosity: Literal["medium"] | None = None


class Reasoning(Wire):
    effort: Literal["none"] | None = None


class StreamOptions(Wire):
    include_obfuscation: bool = False


class ResponsesRequest(Asked):
    """openai-surface §7.1."""

    model: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        default="", description="default: the base model"
    )
    input: Input
    instructions: str | None = Field(default=None, description="the template's slot `instructions`")
    previous_response_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    prompt: StoredPrompt | None = None
    tools: ResponseTools = Field(
        default_factory=list,
        json_schema_extra=EMPTY_LIST,
        description="functions, and at most one file_search",
    )
    tool_choice: ResponseToolChoice | None = None
    include: Annotated[list[Annotated[str, Field(pattern=INCLUDABLE)]], Field(max_length=16)] = Field(
        default_factory=list, json_schema_extra=EMPTY_LIST
    )
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    text: Text = Text()
    truncation: Literal["auto", "disabled"] = "disabled"
    store: bool | None = Field(default=None, description="default: true where the server keeps responses")
    chat_template_kwargs: TemplateKwargs = TemplateKwargs()
    # Accepted and ignored (fields.py, class I).
    background: Off = False
    reasoning: Reasoning | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if not self.messages():
            raise fault("Needs a message: searches that were echoed say nothing", at="input")
        if self.prompt and (self.fewshot.template or self.fewshot.variables):
            raise fault("Name the template here or in fewshot, not in both", at="prompt")
        searching_asked(self.tools, self.tool_choice, self.fewshot)
        self.calling()
        return self

    def messages(self) -> tuple[Message, ...]:
        return tuple(messages_of(shown_items(self.input, "")))

    def calling(self) -> Calling:
        return calling_asked(
            self.tools,
            self.tool_choice,
            parallel=self.parallel_tool_calls,
            shaped=None if self.text.format.wanted() is None else "text.format",
        )

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in self.include or bool(self.top_logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAsk:
    """A turn, and what of the request only the response object and its storage speak of."""

    turn: Turn
    instructions: str | None
    previous: str | None
    store: bool | None  # None: as the server is set up
    include: frozenset[str]
    items: Sequence[Mapping[str, Any]]  # the input, as /input_items shows it
    echoed: Mapping[str, Any]  # fields that the response object repeats


def read_response(body: bytes, context: Context) -> ResponseAsk:
    """What the caller asks for; `turn.messages` are the input's alone.

    The route adds those of the chain, the instructions and, for an empty model, its name.
    Raises InvalidValue, MissingParameter, UnsupportedParameter or InsufficientScope with `param`.
    """
    asked, ignored = read_body(body, ResponsesRequest, RESPONSES, context.unknown_fields)
    turn = turn_of(asked, context, ignored)
    wishes = turn.wishes
    if asked.prompt:
        wishes = replace(wishes, template=asked.prompt.template, variables=asked.prompt.variables)
    turn = replace(
        turn,
        model=asked.model,
        messages=asked.messages(),
        max_tokens=asked.max_output_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.wants_logprobs else None,
        schema=asked.text.format.wanted(),
        thinking=asked.chat_template_kwargs.enable_thinking,
        search=searching_asked(asked.tools, asked.tool_choice, asked.fewshot),
        calling=asked.calling(),
        wishes=wishes,
        truncation=asked.truncation,
    )
    return ResponseAsk(
        turn=bound(turn, asked, context),
        instructions=asked.instructions,
        previous=asked.previous_response_id,
        store=asked.store,
        include=frozenset(asked.include),
        items=shown_items(asked.input, context.id),
        echoed={
            "max_output_tokens": asked.max_output_tokens,
            "parallel_tool_calls": asked.parallel_tool_calls,
            "prompt": _shown(asked.prompt) if asked.prompt else None,
            "safety_identifier": asked.safety_identifier,
            "text": {"format": _shown(asked.text.format), "verbosity": "medium"},
            "tool_choice": _shown(asked.tool_choice) if asked.tool_choice else "auto",
            "tools": [_shown(tool) for tool in asked.tools],
            "top_logprobs": asked.top_logprobs or 0,
            "truncation": asked.truncation,
            "user": asked.user,
        },
    )


def read_include(values: Sequence[str]) -> frozenset[str]:
    """The query values of `include`. Raises InvalidValue."""
    for value in values:
        if not re.search(INCLUDABLE, value):
            raise InvalidValue(f"include knows no {value[:64]!r}", param="include")
    return frozenset(values)


def _shown(value: Any) -> Any:
    """A field as it came, without what was not said."""
    if not isinstance(value, Wire):
        return value
    shown = value.model_dump(by_alias=True, exclude_unset=True)
    return {"type": "text", **shown} if isinstance(value, PlainFormat) else shown
