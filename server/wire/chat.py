"""`POST /v1/chat/completions`: body → Turn, Reply → body."""

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from prompts.records import Message
from server.calling import Calling
from server.records import Choice, Reply, Search, Turn
from server.wire.aliases import bound
from server.wire.answers import annotations, chat_logprobs, usage_object
from server.wire.chat_messages import ChatMessage, misnamed, misplaced
from server.wire.fields import CHAT
from server.wire.generation import Generation, shared_turn
from server.wire.provenance import call_object, fewshot_object
from server.wire.reading import EMPTY_LIST, Context, Off, Wire, fault, read_body
from server.wire.schemas import ResponseFormat
from server.wire.tools import ChatToolChoice, ChatTools, calling_asked, searching_asked


class TemplateKwargs(Wire):
    enable_thinking: bool | None = None


class ChatRequest(Generation):
    """openai-surface §5.1."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2_048)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: ChatTools = Field(
        default_factory=list,
        json_schema_extra=EMPTY_LIST,
        description="functions, and at most one file_search",
    )
    tool_choice: ChatToolChoice | None = None
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
        _ = self.search, self.calling  # their faults
        if wrong := misplaced(self.said) or misnamed(self.messages):
            raise fault(wrong.problem, at=f"messages[{wrong.at}].{wrong.field}")
        return self

    # Each is asked for twice: once for its faults.
    @cached_property
    def said(self) -> tuple[Message, ...]:
        return tuple(message.plain() for message in self.messages)

    @cached_property
    def search(self) -> Search:
        return searching_asked(self.tools, self.tool_choice, self.fewshot)

    @cached_property
    def calling(self) -> Calling:
        shaped = self.response_format is not None and self.response_format.wanted() is not None
        return calling_asked(
            self.tools,
            self.tool_choice,
            parallel=self.parallel_tool_calls,
            shaped="response_format" if shaped else None,
        )


def read_chat(body: bytes, context: Context) -> Turn:
    """What the caller asks for, checked as far as the body alone allows.

    Left to those who know the model: its name, `logit_bias` ids against the vocabulary, the room for
    `max_tokens`, and `tool_choice: required` (Turn.search.required) when nothing names a store.
    Raises InvalidValue, MissingParameter, UnsupportedParameter or InsufficientScope with `param`.
    """
    asked, ignored = read_body(body, ChatRequest, CHAT, context.unknown_fields)
    turn = shared_turn(
        asked,
        context,
        ignored,
        messages=asked.said,
        max_tokens=asked.max_completion_tokens or asked.max_tokens,
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        schema=asked.response_format.wanted() if asked.response_format else None,
        thinking=asked.chat_template_kwargs.enable_thinking,
        search=asked.search,
        calling=asked.calling,
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
                "message": _message(choice, turn, public_url),
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


def _message(choice: Choice, turn: Turn, public_url: str) -> dict[str, Any]:
    message = {
        "role": "assistant",
        # Where functions are offered, an answer without words has no content, as in a stream.
        "content": choice.text if choice.text or not turn.calling.functions else None,
        "refusal": None,
        "annotations": annotations(choice.citations, public_url),
    }
    calls = [call_object(call) for call in choice.calls]
    return {**message, "tool_calls": calls} if calls else message
