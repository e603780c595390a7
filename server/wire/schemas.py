"""`response_format` → the JSON schema the answer must fit, in bounds that the grammar compiler survives."""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BeforeValidator, Field, model_validator

from server.wire.reading import Wire, fault

LARGEST = 16 * 1024  # bytes, as compact JSON
DEEPEST = 16
NAMES = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})  # their keys are no keywords
DATA = frozenset({"const", "enum", "default", "examples"})
REGEX = frozenset({"pattern", "patternProperties"})  # a pattern can hold the grammar compiler for minutes


def check_schema(schema: Any) -> Any:
    """The schema itself. Raises PydanticCustomError with the place below it."""
    if not isinstance(schema, dict):
        return schema  # the type check that follows says so better
    if len(orjson.dumps(schema)) > LARGEST:
        raise fault(f"A schema may have at most {LARGEST} bytes")
    _walk(schema, "", 1)
    return schema


def _walk(node: Any, at: str, depth: int, *, keywords: bool = True) -> None:
    if depth > DEEPEST:
        raise fault(f"A schema may be nested at most {DEEPEST} levels")
    if isinstance(node, list):
        for position, item in enumerate(node):
            if isinstance(item, dict | list):
                _walk(item, f"{at}[{position}]", depth + 1)
        return
    for key, item in node.items():
        here = f"{at}.{key}"
        if keywords and key in REGEX:
            raise fault(f"The keyword {key!r} is not offered in schemas", at=here, kind="unsupported")
        if keywords and key == "$ref" and not (isinstance(item, str) and item.startswith("#")):
            raise fault("A $ref must point into the same schema (#/…)", at=here)
        if isinstance(item, dict | list) and not (keywords and key in DATA):
            _walk(item, here, depth + 1, keywords=not (keywords and key in NAMES))


class JsonSchema(Wire):
    name: Annotated[str, Field(max_length=64, pattern=r"^[\w-]+$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], BeforeValidator(check_schema), Field(alias="schema")]
    strict: bool | None = Field(default=None, description="schemas are always strict here")


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _names_its_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise fault("type json_schema needs it", at=".json_schema", kind="absent")
        return self

    def wanted(self) -> dict[str, Any] | None:
        """None for text, {} for any JSON object."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {}
        return self.json_schema.schema_ if self.json_schema else {}
