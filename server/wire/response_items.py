"""The items of a response's input: as they are read, as `/input_items` shows them, and as turns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from prompts.records import Call, Message
from server.calling import arguments_of
from server.wire.chat_messages import Arguments, CalledName, CallId
from server.wire.reading import Wire, fault

ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
Status = Literal["in_progress", "completed", "incomplete"]


def _known(kind: Any) -> Any:
    if kind != "message":
        raise fault(
            "This server takes items of the types message, function_call, function_call_output and "
            "file_search_call",
            kind="unsupported",
        )
    return kind


class Part(Wire):
    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


Texts = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Part], Field(min_length=1, max_length=2_048), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


def _texts(said: str | Sequence[Part]) -> list[str]:
    return [said] if isinstance(said, str) else [part.text for part in said]


class InputMessage(Wire):
    """A message; clients echo those of our answers whole."""

    type: Annotated[Literal["message"], BeforeValidator(_known)] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Texts
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def shown(self, place: str) -> dict[str, Any]:
        kind = "output_text" if self.role == "assistant" else "input_text"
        extra: dict[str, Any] = {"annotations": []} if self.role == "assistant" else {}
        parts = [{"type": kind, "text": text, **extra} for text in _texts(self.content)]
        return {
            "type": "message",
            "id": f"msg_{place}",
            "role": self.role,
            "status": "completed",
            "content": parts,
        }


class EchoedSearch(Wire):
    """A search of an earlier answer: accepted, not used again, we search anew."""

    type: Literal["file_search_call"]
    id: str | None = None
    status: str | None = None
    queries: list[str] | None = None
    results: list[Any] | None = None

    def shown(self, place: str) -> dict[str, Any]:
        found = {"queries": self.queries or [], "results": None}
        return {"type": self.type, "id": f"fs_{place}", "status": "completed", **found}


class EchoedCall(Wire):
    """A call of a function, as an earlier answer told it."""

    type: Literal["function_call"]
    call_id: CallId
    name: CalledName
    arguments: Arguments
    id: str | None = None
    status: Status | None = None
    parsed_arguments: Any = None  # of the client's own making

    def shown(self, place: str) -> dict[str, Any]:
        called = {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        return {"type": self.type, "id": f"fc_{place}", "status": "completed", **called}


class CallOutput(Wire):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Texts
    id: str | None = None
    status: Status | None = None
    name: str | None = None

    def shown(self, place: str) -> dict[str, Any]:
        text = "\n".join(_texts(self.output))
        given = {"call_id": self.call_id, "output": text}
        return {"type": self.type, "id": f"fco_{place}", "status": "completed", **given}


def _kind(item: Any) -> str:
    said = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    tags = {
        "file_search_call": "<search>",
        "function_call": "<call>",
        "function_call_output": "<output>",
    }
    return tags.get(said, "<message>") if isinstance(said, str) else "<message>"


Item = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[EchoedSearch, Tag("<search>")]
    | Annotated[EchoedCall, Tag("<call>")]
    | Annotated[CallOutput, Tag("<output>")],
    Discriminator(_kind),
]
Input = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Item], Field(min_length=1, max_length=2_048), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


def shown_items(given: str | Sequence[Item], response_id: str) -> list[dict[str, Any]]:
    """The input as items with ids of their own; positions make them unique and sortable."""
    items = [InputMessage(role="user", content=given)] if isinstance(given, str) else given
    key = response_id.removeprefix("resp_")
    return [item.shown(f"{key}{at:04d}") for at, item in enumerate(items)]


def messages_of(items: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Items as turns; what the assistant said and called in one go is one turn, searches are none.

    Arguments that are no JSON object, as an answer cut short leaves them, stand there as nothing.
    """
    turns: list[Message] = []
    for item in items:
        last = turns[-1] if turns and turns[-1].role == "assistant" else None
        if item["type"] == "message":
            text = "\n".join(part["text"] for part in item["content"])
            if item["role"] == "assistant" and last is not None and last.calls:
                turns[-1] = replace(last, text=text)
            else:
                turns.append(Message(ROLES[item["role"]], text))
        elif item["type"] == "function_call":
            call = Call(item["call_id"], item["name"], arguments_of(item["arguments"]) or "{}")
            if last is None:
                turns.append(Message("assistant", "", (call,)))
            else:
                turns[-1] = replace(last, calls=(*last.calls, call))
        elif item["type"] == "function_call_output":
            turns.append(Message("tool", item["output"], answers=item["call_id"]))
    return turns
