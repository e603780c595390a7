"""`POST /v1/responses`: body → what is asked, Reply → response object (openai-surface §7)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from prompts.records import Message
from server.errors import InvalidValue
from server.records import Turn
from server.wire.aliases import bound
from server.wire.chat import TemplateKwargs
from server.wire.extension import FileSearch, ToolChoice, search_asked
from server.wire.fields import RESPONSES
from server.wire.generation import HARMLESS, Asked, turn_of
from server.wire.reading import Context, Off, Wire, fault, read_body
from server.wire.schemas import JsonSchema

RESULTS, LOGPROBS = "file_search_call.results", "message.output_text.logprobs"
ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
INCLUDABLE = rf"{HARMLESS}|^(file_search_call\.results|message\.output_text\.logprobs)$"


class Part(Wire):
    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Wire):
    """A message; clients echo those of our answers whole."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[
        Annotated[str, Tag("<text>")]
        | Annotated[list[Part], Field(min_length=1, max_length=2_048), Tag("<list>")],
        Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
    ]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def plain(self) -> Message:
        parts = self.content
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
        return Message(ROLES[self.role], text)


class EchoedSearch(Wire):
    """A search of an earlier answer: accepted, not used again, we search anew."""

    type: Literal["file_search_call"]
    id: str | None = None
    status: str | None = None
    queries: list[str] | None = None
    results: list[Any] | None = None


def _kind(item: Any) -> str:
    return "<search>" if isinstance(item, dict) and item.get("type") == "file_search_call" else "<message>"


Item = Annotated[
    Annotated[InputMessage, Tag("<message>")] | Annotated[EchoedSearch, Tag("<search>")],
    Discriminator(_kind),
]
Input = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Item], Field(min_length=1, max_length=2_048), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


class StoredPrompt(Wire):
    """A template of the library by OpenAI's words for one."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    version: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    variables: Annotated[dict[str, str], Field(max_length=16)] = Field(default={})

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
    tools: Annotated[list[FileSearch], Field(max_length=1)] = Field(default=[])
    tool_choice: ToolChoice | None = None
    include: Annotated[list[Annotated[str, Field(pattern=INCLUDABLE)]], Field(max_length=16)] = Field(
        default=[]
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
        search_asked(self.tools, self.tool_choice, self.fewshot)
        return self

    def messages(self) -> tuple[Message, ...]:
        if isinstance(self.input, str):
            return (Message("user", self.input),)
        return tuple(item.plain() for item in self.input if isinstance(item, InputMessage))

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
        search=search_asked(asked.tools, asked.tool_choice, asked.fewshot),
        wishes=wishes,
        truncation=asked.truncation,
    )
    return ResponseAsk(
        turn=bound(turn, asked, context),
        instructions=asked.instructions,
        previous=asked.previous_response_id,
        store=asked.store,
        include=frozenset(asked.include),
        items=_items(asked, context.id),
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


def messages_of(items: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The text of stored items, as turns; `system` and `developer` speak as they did."""
    return [
        Message(ROLES[item["role"]], "\n".join(part["text"] for part in item["content"]))
        for item in items
        if item["type"] == "message"
    ]


def _items(asked: ResponsesRequest, response_id: str) -> list[dict[str, Any]]:
    """The input as items with ids of their own; positions make them unique and sortable."""
    given = [InputMessage(role="user", content=asked.input)] if isinstance(asked.input, str) else asked.input
    key = response_id.removeprefix("resp_")
    items: list[dict[str, Any]] = []
    for at, item in enumerate(given):
        if isinstance(item, EchoedSearch):
            shown = {"queries": item.queries or [], "results": None}
            items.append({"type": item.type, "id": f"fs_{key}{at:04d}", "status": "completed", **shown})
            continue
        kind = "output_text" if item.role == "assistant" else "input_text"
        texts = [item.content] if isinstance(item.content, str) else [part.text for part in item.content]
        extra: dict[str, Any] = {"annotations": []} if item.role == "assistant" else {}
        parts = [{"type": kind, "text": text, **extra} for text in texts]
        items.append(
            {
                "type": "message",
                "id": f"msg_{key}{at:04d}",
                "role": item.role,
                "status": "completed",
                "content": parts,
            }
        )
    return items


def _shown(value: Any) -> Any:
    """A field as it came, without what was not said."""
    if not isinstance(value, Wire):
        return value
    shown = value.model_dump(by_alias=True, exclude_unset=True)
    return {"type": "text", **shown} if isinstance(value, PlainFormat) else shown
