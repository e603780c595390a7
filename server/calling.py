"""Functions that a model may call, and how a call is told bit by bit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function tool of a request."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None  # a JSON schema; None: it takes nothing

    def shown(self) -> dict[str, Any]:
        """As chat templates expect it, which is OpenAI's form."""
        said = {"description": self.description} if self.description is not None else {}
        about = {"name": self.name, **said, "parameters": dict(self.parameters or NOTHING)}
        return {"type": "function", "function": about}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calling:
    """The functions that the model is shown, and whether it must call one."""

    functions: tuple[Function, ...] = ()
    choice: Literal["auto", "required", "named"] = "auto"
    name: str | None = None  # of the function that must be called
    parallel: bool = True  # several calls in one answer

    @property
    def parsed(self) -> bool:
        """Whether the model itself decides, in its own format, which a parser must know."""
        return bool(self.functions) and self.choice == "auto"

    @property
    def chars(self) -> int:
        """About as much as they add to the prompt."""
        return sum(len(json.dumps(function.shown())) for function in self.functions)

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """What the answer must fit so that it is a call; None where the model decides.

        The arguments alone for a function by name, else a list of `{"name", "parameters"}`, as vLLM's own
        server has them.
        """
        if not self.functions or self.choice == "auto":
            return None
        if self.choice == "named":
            (function,) = (one for one in self.functions if one.name == self.name)
            return function.parameters or NOTHING
        return {
            "type": "array",
            "minItems": 1,
            **({} if self.parallel else {"maxItems": 1}),
            "items": {"anyOf": [_call(f"f{at}", one) for at, one in enumerate(self.functions)]},
            # Every schema whole under a key of its own, so that what two of them define does not meet.
            "$defs": {
                f"f{at}": _moved(one.parameters or NOTHING, f"#/$defs/f{at}")
                for at, one in enumerate(self.functions)
            },
        }


NO_CALLS = Calling()


def _call(key: str, function: Function) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "parameters": {"$ref": f"#/$defs/{key}"}},
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }


def _moved(node: Any, root: str) -> Any:
    """The schema with its references led to where it stands now."""
    if isinstance(node, list):
        return [_moved(item, root) for item in node]
    if not isinstance(node, Mapping):
        return node
    moved = {key: _moved(item, root) for key, item in node.items()}
    if isinstance(reference := node.get("$ref"), str):
        moved["$ref"] = root + reference.removeprefix("#")
    return moved


class CallPart(NamedTuple):
    """Some more of one call. `id` and `name` come with its first part and with no other."""

    at: int  # which call of the answer, from 0
    arguments: str = ""  # more of the JSON
    id: str | None = None
    name: str | None = None


class Heard(NamedTuple):
    """What some more of an answer turned out to be."""

    text: str = ""
    calls: tuple[CallPart, ...] = ()


def arguments_of(text: str) -> str | None:
    """The arguments of an earlier call in the one form that templates read; None when they are no object."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else None
