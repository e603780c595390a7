"""`POST /v1/chat/completions`: body → Turn, Reply → body."""

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from prompts.records import Message
from server.records import Reply, Search, Turn
from server.wire.aliases import bound
from server.wire.answers import annotations, chat_logprobs, usage_object
from server.wire.extension import FileSearch, ToolChoice, search_asked
from server.wire.fields import CHAT
from server.wire.generation import Generation, shared_turn
from server.wire.provenance import fewshot_object
from server.wire.reading import Context, Off, Wire, fault, read_body
from server.wire.schemas import ResponseFormat


class TextPart(Wire):
    type: Literal["text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=2_048), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


class ChatMessage(Wire):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    # Clients echo whole assistant messages. What follows is accepted there and not shown to the model.
    refusal: str | None = None
    annotations: list[Any] | None = None
    fewshot: Any = None
    tool_calls: list[Any] | None = None

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if self.tool_calls:
            raise fault("Tool calls are not offered by this server", at=".tool_calls", kind="unsupported")
        if self.role != "assistant":
            for name in sorted(self.model_fields_set & {"refusal", "annotations", "fewshot", "tool_calls"}):
                raise fault("Only assistant messages have this field", at=f".{name}", kind="unsupported")
        return self

    def plain(self) -> Message:
        role: Literal["system", "user", "assistant"] = "system" if self.role == "developer" else self.role
        text = (
            self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        )
        return Message(role, text)


class TemplateKwargs(Wire):
    enable_thinking: bool | None = None


class ChatRequest(Generation):
    """openai-surface §5.1."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2_048)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[FileSearch], Field(max_length=1)] = Field(default=[])
    tool_choice: ToolChoice | None = None
    chat_template_kwargs: TemplateKwargs = TemplateKwargs()
    # Accepted and ignored (fields.py, class I).
    store: Off = False
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise fault("max_tokens and max_completion_tokens differ; send one", at="max_completion_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise fault("top_logprobs needs logprobs: true", at="top_logprobs")
        self.search()
        return self

    def search(self) -> Search:
        return search_asked(self.tools, self.tool_choice, self.fewshot)


def read_chat(body: bytes, context: Context) -> Turn:
    """What the caller asks for, checked as far as the body alone allows.

    Left to those who know the model: its name, `logit_bias` ids against the vocabulary, the room for
    `max_tokens`, and `tool_choice: required` (Turn.search.required) when nothing names a store.
    Raises InvalidValue, MissingParameter, UnsupportedParameter or InsufficientScope with `param`.
    """
    asked, ignored = read_body(body, ChatRequest, CHAT, context.unknown_fields)
    turn = replace(
        shared_turn(asked, context, ignored),
        messages=tuple(message.plain() for message in asked.messages),
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        schema=asked.response_format.wanted() if asked.response_format else None,
        thinking=asked.chat_template_kwargs.enable_thinking,
        search=asked.search(),
    )
    return bound(turn, asked, context)


def chat_body(reply: Reply, public_url: str = "") -> dict[str, Any]:
    """The whole answer as one `chat.completion` object. `public_url` starts the links of citations."""
    plan, turn = reply.plan, reply.plan.turn
    return {
        "id": turn.id,
        "object": "chat.completion",
        "created": turn.created,
        "model": turn.model,
        "choices": [
            {
                "index": choice.index,
                "message": {
                    "role": "assistant",
                    "content": choice.text,
                    "refusal": None,
                    "annotations": annotations(choice.citations, public_url),
                },
                "logprobs": chat_logprobs(choice.logprobs, turn.logprobs),
                "finish_reason": choice.finish,
            }
            for choice in reply.choices
        ],
        "usage": usage_object(reply.usage),
        "system_fingerprint": plan.fingerprint,
        "service_tier": "default",
        "metadata": dict(turn.metadata),
        "fewshot": fewshot_object(plan, reply),
    }
