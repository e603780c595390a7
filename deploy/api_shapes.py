"""JSON schemas and the shapes of answers as Markdown: tables of fields, outlines."""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from server.wire import response_shapes, shapes, store_shapes
from server.wire.fields import Class, class_of
from server.wire.shapes import Shape

SHARED = {"FewshotRequest": "fewshot", "FileSearch": "file_search", "RankingOptions": "ranking_options"}
PARTS: Mapping[str, Shape] = {
    "provenance": shapes.PROVENANCE,
    "citation": shapes.CITATION,
    "source": shapes.SOURCE,
    "usage": shapes.USAGE,
    "response": response_shapes.RESPONSE,
    "input_item": response_shapes.INPUT_ITEM,
    "file": store_shapes.FILE,
    "vector_store": store_shapes.STORE,
    "vector_store_file": store_shapes.STORE_FILE,
    "file_batch": store_shapes.BATCH,
}
DEEPEST = 6  # levels of a request's fields


def fields_table(
    schema: Shape, said: Mapping[str, Any], classes: Mapping[str, Class] = MappingProxyType({})
) -> Iterator[str]:
    """What must be there is marked, and comes first."""
    yield "| field | type | range, default | |\n|---|---|---|---|"
    yield from _fields(schema, said, classes)


def _fields(
    schema: Shape, said: Mapping[str, Any], classes: Mapping[str, Class], prefix: str = "", depth: int = 0
) -> Iterator[str]:
    schema = _resolved(schema, said)
    required = schema.get("required", [])
    for name, raw in sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required):
        kind, limits = kind_of(raw, said)
        star = "*" if name in required else ""
        about = _about(raw, said)
        if class_of(classes, f"{prefix}{name}") == "I":
            about = f"{about}; changes nothing" if about else "changes nothing"
        shared = [SHARED[ref] for ref in _references(raw, said) if ref in SHARED]
        if shared:
            about = f"{about}; see " if about else "see "
            about += ", ".join(f"[{one}](#{one})" for one in shared)
        yield f"| `{prefix}{name}`{star} | {table_cell(kind)} | {table_cell(limits)} | {table_cell(about)} |"
        if depth < DEEPEST:
            for inner, path in _objects(raw, said, f"{prefix}{name}"):
                yield from _fields(inner, said, classes, f"{path}.", depth + 1)


def _objects(schema: Shape, said: Mapping[str, Any], path: str) -> Iterator[tuple[Shape, str]]:
    """The objects with fields of their own inside a field, and where they stand, but for the shared ones."""
    if schema.get("$ref", "").rpartition("/")[2] in SHARED:
        return
    schema = _resolved(schema, said)
    for one in _alternatives(schema, said):
        if one.get("type") == "array":
            yield from _objects(one.get("items", {}), said, f"{path}[]")
        elif one is not schema:
            yield from _objects(one, said, path)
    if schema.get("properties"):
        yield schema, path


def _references(schema: Shape, said: Mapping[str, Any]) -> list[str]:
    """Names of the components a field is made of."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [name]
    found = []
    for one in [*schema.get("anyOf", []), *schema.get("oneOf", []), schema.get("items", {})]:
        found += _references(one, said) if one else []
    return found


def _resolved(schema: Shape, said: Mapping[str, Any]) -> Shape:
    if "$ref" not in schema:
        return schema
    named = said["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return {**named, **{key: value for key, value in schema.items() if key != "$ref"}}


def _alternatives(schema: Shape, said: Mapping[str, Any]) -> list[Shape]:
    """What a value may be, null aside: it means absent wherever it may stand."""
    inner = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if not inner:
        return [schema]
    flat = []
    for one in inner:
        if one.get("$ref", "").rpartition("/")[2] in SHARED:
            continue
        flat += _alternatives(_resolved(one, said), said)
    return [one for one in flat if one.get("type") != "null"]


def _about(schema: Shape, said: Mapping[str, Any]) -> str:
    """What the field's own description says, not its type's."""
    if "description" in schema and "$ref" not in schema:
        return str(schema["description"])
    for one in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        if told := _about(one, said):
            return told
    return ""


def kind_of(schema: Shape, said: Mapping[str, Any]) -> tuple[str, str]:
    """(type, range and default) in words."""
    default = _default(schema)
    kinds: list[str] = []
    limits: list[str] = []
    for one in _alternatives(_resolved(schema, said), said):
        kind, limit = _one_kind(one, said)
        kinds += [] if kind in kinds else [kind]
        limits += [part for part in limit.split("; ") if part and part not in limits]
    if default not in (None, {}, [], ""):
        limits.append(f"default {json.dumps(default, ensure_ascii=False)}")
    return " or ".join(kinds) or "object", "; ".join(limits)


def _default(schema: Shape) -> Any:
    if "default" in schema:
        default = schema["default"]
        return None if isinstance(default, dict) else default
    for one in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        if (found := _default(one)) is not None:
            return found
    return None


def _one_kind(schema: Shape, said: Mapping[str, Any]) -> tuple[str, str]:
    if "const" in schema:
        return json.dumps(schema["const"]), ""
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"]), ""
    kind = schema.get("type", "anything")
    limits = _range(schema)
    if kind == "array":
        inner, inside = kind_of(schema.get("items", {}), said)
        most = schema.get("maxItems")
        counted = f"{schema.get('minItems', 0)}–{most} items" if most is not None else ""
        return f"list of {inner}", "; ".join(text for text in (counted, inside) if text)
    if schema.get("format") == "binary":
        kind = "file"
    return str(kind), limits


def _range(schema: Shape) -> str:
    least, over = schema.get("minimum"), schema.get("exclusiveMinimum")
    most, under = schema.get("maximum"), schema.get("exclusiveMaximum")
    said = []
    if least is not None and most is not None:
        said.append(f"{_number(least)}…{_number(most)}")
    else:
        words = {"≥": least, ">": over, "≤": most, "<": under}
        said += [f"{word} {_number(value)}" for word, value in words.items() if value is not None]
    longest = schema.get("maxLength")
    if longest is not None:
        said.append(f"{schema.get('minLength', 0)}–{longest} characters")
    if (pairs := schema.get("maxProperties")) is not None:
        said.append(f"≤ {pairs} pairs")
    return ", ".join(said)


def _number(value: float) -> str:
    exponent = abs(value).bit_length() - 1 if isinstance(value, int) else 0
    power = exponent > 40 and abs(value) == 2**exponent
    return f"{'-' if value < 0 else ''}2^{exponent}" if power else f"{value:,}".replace(",", " ")


def outline(shape: Shape, indent: str = "") -> Iterator[str]:
    """The shape of an answer, a line a key."""
    for key, inner in shape.get("properties", {}).items():
        word, deeper = _named(inner)
        yield f"{indent}{key}{'' if not word else ': ' + word}"
        for number, one in enumerate(deeper):
            if number:
                yield f"{indent}  … or"
            yield from outline(one, indent + "  ")


def _named(shape: Shape) -> tuple[str, list[Shape]]:
    """What a key holds in a word or two, and the shapes whose keys are told below it, one or another."""
    for name, part in PARTS.items():
        if part == shape:
            return name, []
    if "enum" in shape:
        return " | ".join(json.dumps(value) for value in shape["enum"]), []
    if "anyOf" in shape:
        told = [_named(one) for one in shape["anyOf"]]
        words = dict.fromkeys(word or "object" for word, _ in told)
        return " or ".join(words), [one for _, deeper in told for one in deeper]
    kind = shape.get("type", "anything")
    if kind == "array":
        word, deeper = _named(shape.get("items", {}))
        return f"list of {word or 'objects'}", deeper
    if kind == "object" and shape.get("properties"):
        return "", [shape]
    if isinstance(kind, list):
        return " or ".join(kind), []
    return str(kind), []


def table_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
