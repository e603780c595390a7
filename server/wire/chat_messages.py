"""The messages of a chat request: text, calls of functions, and what these gave."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from prompts.records import Call, Message
from server.calling import arguments_of
from server.wire.reading import Wire, fault

CallId = Annotated[str, Field(min_length=1, max_length=128)]
CalledName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\w.:-]+$")]


class TextPart(Wire):
    type: Literal["text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=2_048), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


def _object(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments  # the type check that follows says so better
    if (known := arguments_of(arguments)) is None:
        raise fault("Arguments must be a JSON object, written as text")
    return known


Arguments = Annotated[str, BeforeValidator(_object)]


class Called(Wire):
    name: CalledName
    arguments: Arguments
    parsed_arguments: Any = None  # of the client's own making


class EchoedCall(Wire):
    """A call as an earlier answer told it."""

    id: CallId
    type: Literal["function"] = "function"
    function: Called
    index: int | None = None  # left over from a stream


class ChatMessage(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: Annotated[list[EchoedCall], Field(max_length=128)] | None = Field(
        default=None, description="of the assistant"
    )
    tool_call_id: CallId | None = Field(default=None, description="of a tool: which call this came of")
    name: CalledName | None = Field(default=None, description="of a tool: that of the function, once more")
    # Clients echo whole assistant messages. What follows is accepted there and not shown to the model.
    refusal: str | None = None
    annotations: list[Any] | None = None
    fewshot: Any = None

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise fault("is required", at=".content", kind="absent")
        if self.role != "assistant":
            for name in sorted(self.model_fields_set & {"refusal", "annotations", "fewshot", "tool_calls"}):
                raise fault("Only assistant messages have this field", at=f".{name}", kind="unsupported")
        if self.role == "tool" and self.tool_call_id is None:
            raise fault("A tool's message names the call it came of", at=".tool_call_id", kind="absent")
        if self.role != "tool":
            for name in sorted(self.model_fields_set & {"tool_call_id", "name"}):
                raise fault("Only a tool's message has this field", at=f".{name}", kind="unsupported")
        return self

    def plain(self) -> Message:
        role = "system" if self.role == "developer" else self.role
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
        calls = tuple(
            Call(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ()
        )
        return Message(role, text, calls, self.tool_call_id)


class Misplaced(NamedTuple):
    """A message that does not fit those before it."""

    at: int
    field: str
    problem: str


def misplaced(messages: Sequence[Message]) -> Misplaced | None:
    """The first fault in how calls and their results follow each other: models know whole rounds."""
    waiting: dict[str, None] = {}
    for at, message in enumerate(messages):
        if message.role == "tool":
            if message.answers not in waiting:
                return Misplaced(at, "tool_call_id", f"no call {message.answers!r} came just before it")
            del waiting[message.answers]
            continue
        if waiting:
            return Misplaced(at, "role", f"{_unanswered(waiting)} before the conversation goes on")
        waiting = dict.fromkeys(call.id for call in message.calls)
        if len(waiting) < len(message.calls):
            return Misplaced(at, "tool_calls", "two calls have the same id")
    return Misplaced(len(messages) - 1, "tool_calls", _unanswered(waiting)) if waiting else None


def misnamed(messages: Sequence[ChatMessage]) -> Misplaced | None:
    """The first tool's message that names another function than the call it came of."""
    called: dict[str | None, str] = {}
    for at, message in enumerate(messages):
        called |= {call.id: call.function.name for call in message.tool_calls or ()}
        if message.name is not None and message.name != (name := called.get(message.tool_call_id)):
            return Misplaced(at, "name", f"the call that this came of is of {name!r}")
    return None


def _unanswered(waiting: dict[str, None]) -> str:
    return f"the calls {', '.join(map(repr, waiting))} need each the message of a tool"
