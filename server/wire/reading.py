"""Bytes → a checked wire model, or an error whose `param` names the place.

One road for every route: strict JSON, null means absent, strict model, and the field table for whatever the
model did not know.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from server.aliases import Alias
from server.errors import InvalidFilter, InvalidValue, MissingParameter, ServerError, UnsupportedParameter
from server.wire.fields import Class, class_of, is_choice_of_features

DEEPEST = 64  # nested objects and lists in a body
MOST_FAULTS = 10_000  # listing more of them would hold the event loop for longer than they deserve
MOST_SKIPPED = 16  # unknown names; they travel in a header
LONGEST_PARAM = 200  # characters; keys are the caller's own words
CONTAINERS = (dict, list)
# Values, not fields: a null inside them is data.
OPAQUE = frozenset({"schema", "parameters", "metadata", "logit_bias", "variables", "annotations"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a route knows of a request besides its body."""

    id: str  # chatcmpl-…, cmpl-…
    created: int  # seconds since the epoch
    tenant: str = "local"
    scopes: frozenset[str] = frozenset()  # of the caller's key
    unit_header: str | None = None  # value of the trusted header that names the experiment unit
    noted: Mapping[str, str | int] = field(default_factory=dict)  # headers that are only written down
    deadline: float | None = None  # seconds this request may live
    patience: float | None = None  # seconds that the client waits for bytes
    unknown_fields: Literal["refuse", "report"] = "refuse"
    aliases: Mapping[str, Alias] = field(default_factory=dict)  # that the caller's tenant may use

    def deadline_for(self, *, stream: bool) -> float | None:
        """A client that waits for the whole answer is gone when its patience ends; a stream sends bytes."""
        known = [one for one in (self.deadline, None if stream else self.patience) if one is not None]
        return min(known) if known else None


# What descriptions say of fields whose default is made by a factory: pydantic has Python copy a default of
# this kind deeply, ten calls a field and request.
EMPTY_LIST: dict[str, JsonValue] = {"default": []}
EMPTY_OBJECT: dict[str, JsonValue] = {"default": {}}


class Wire(BaseModel):
    """The strictness of every request model: no unknown fields, no coercion, no NaN, no input in errors."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def _no_number(value: Any) -> Any:
    if not isinstance(value, bool):
        raise fault("Input should be a valid boolean")  # 0 is no false, though Python thinks them equal
    return value


Off = Annotated[Literal[False], BeforeValidator(_no_number)]  # of what is known and not offered
M = TypeVar("M", bound=Wire)


def fault(
    message: str, *, at: str = "", kind: Literal["invalid", "unsupported", "absent", "filter"] = "invalid"
) -> PydanticCustomError:
    """To raise from a validator; `at` is the path below the validated value, such as `.name`."""
    return PydanticCustomError(kind, "{message}", {"message": message, "at": at})


def read_body(
    body: bytes, model: type[M], table: Mapping[str, Class], unknown_fields: str = "refuse"
) -> tuple[M, tuple[str, ...]]:
    """The model, and the unknown names that were skipped under `unknown_fields = "report"`.

    Raises InvalidValue, MissingParameter or UnsupportedParameter.
    """
    value = read_json(body)
    if b"null" in body:
        value = without_nulls(value)
    if not isinstance(value, dict):
        raise InvalidValue("The body must be a JSON object.")
    skipped: list[str] = []
    while True:
        try:
            return model.model_validate(value), tuple(skipped)
        except ValidationError as problem:
            count = problem.error_count()
            if count > MOST_FAULTS:
                raise InvalidValue(f"The body has {count} faults; /openapi.json says what fits.") from None
            errors = problem.errors(include_url=False, include_input=False)
        strange = [error for error in errors if unknown_fields == "report" and _is_unknown(error, table)]
        if not strange or len(strange) + len(skipped) > MOST_SKIPPED:
            raise _telling(errors, table)
        for error in strange:
            _remove(value, error)
            skipped.append(_path(error))


def read_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or infinities, no lone surrogates, no duplicate keys, at most 64 levels."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        reason = str(problem).split(":")[0]  # the rest is a position, which is harmless but long
        raise InvalidValue(f"The body is not valid JSON: {reason} (character {problem.pos}).") from None
    if body.count(b"{") + body.count(b"[") > DEEPEST:  # else it cannot be deeper
        _refuse_depth(value)
    # Two readers of one body may each take another of two equal keys; nobody means to send both.
    json.loads(body, object_pairs_hook=_refuse_duplicates)
    return value


def without_nulls(value: Any) -> Any:
    """The same value without null members: null means absent."""
    if isinstance(value, dict):
        return {
            key: item if key in OPAQUE else without_nulls(item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [without_nulls(item) if isinstance(item, CONTAINERS) else item for item in value]
    return value


def _refuse_depth(value: Any) -> None:
    level = [value] if isinstance(value, CONTAINERS) else []
    for _ in range(DEEPEST):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, CONTAINERS)
        ]
        if not level:
            return
    if level:
        raise InvalidValue(f"The body is nested deeper than {DEEPEST} levels.")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidValue(f"The key {twice[:64]!r} occurs twice in one object.", param=twice[:64])


def _telling(errors: list[ErrorDetails], table: Mapping[str, Class]) -> ServerError:
    """The one error to report: what is not offered before what is malformed before what is missing."""
    ranked: dict[type[ServerError], ServerError] = {}
    for error in errors:
        found = _as_refusal(error, table)
        ranked.setdefault(type(found), found)
        if UnsupportedParameter in ranked:
            break
    kinds = (UnsupportedParameter, InvalidFilter, InvalidValue, MissingParameter)
    return next(ranked[kind] for kind in kinds if kind in ranked)


def _is_unknown(error: ErrorDetails, table: Mapping[str, Class]) -> bool:
    return error["type"] == "extra_forbidden" and class_of(table, _pattern(error)) is None


def _as_refusal(error: ErrorDetails, table: Mapping[str, Class]) -> ServerError:
    kind = error["type"]
    param = (_path(error) + error.get("ctx", {}).get("at", "")).removeprefix(".")
    pattern = _pattern(error)
    if kind == "extra_forbidden":
        if class_of(table, pattern) == "R":
            return UnsupportedParameter(
                f"{param!r} is not supported by this server; leave it out.", param=param
            )
        return UnsupportedParameter(f"Unknown parameter {param!r}; leave it out.", param=param)
    if kind == "missing":
        return MissingParameter(f"{param!r} is required.", param=param)
    said = f"{param!r}: {error['msg']}." if param else f"{error['msg']}."
    chosen = kind in ("literal_error", "string_pattern_mismatch") and is_choice_of_features(table, pattern)
    if kind == "filter":
        return InvalidFilter(said, param=param)
    if kind == "absent":
        return MissingParameter(said, param=param or None)
    if kind == "unsupported" or chosen:
        return UnsupportedParameter(said, param=param or None)
    return InvalidValue(said, param=param or None)


def _steps(error: ErrorDetails) -> list[int | str]:
    """The way to the fault, without the tags of unions, which are names of ours in angle brackets."""
    *way, last = error["loc"] or ("",)
    if (
        error["type"] != "extra_forbidden"
    ):  # there the last step is the caller's word, which may look like a tag
        way.append(last)
    steps = [step for step in way if not (isinstance(step, str) and re.fullmatch(r"<\w+>|\[key\]", step))]
    return [*steps, last] if error["type"] == "extra_forbidden" else steps


def _path(error: ErrorDetails) -> str:
    """("messages", 2, "content", "<list>", 0, "type") → `messages[2].content[0].type`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in _steps(error))
    # Printable ASCII: the names of skipped fields also travel in a header.
    return re.sub(r"[^!-~]", "?", path.removeprefix("."))[:LONGEST_PARAM]


def _pattern(error: ErrorDetails) -> str:
    steps = ("[]" if isinstance(step, int) else f".{step}" for step in _steps(error))
    return "".join(steps).removeprefix(".")


def _remove(value: Any, error: ErrorDetails) -> None:
    *way, last = _steps(error)
    for step in way:
        value = value[step]
    del value[last]
