"""docs/api.md: /openapi.json as a page to read, with examples that a test runs against a server."""

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from deploy.api_examples import EXAMPLES, PYTHON, Call
from server.app import create_app
from server.metrics import Metrics
from server.openapi import describe
from server.wire import response_shapes, shapes, store_shapes
from server.wire.fields import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, STORE_SEARCH, Class, class_of
from server.wire.problems import TABLE
from server.wire.shapes import Shape

INTRODUCTION = """# The HTTP interface

Made from `/openapi.json`, which every server has; [calling.md](calling.md) tells the same as a story. Paths
below `/v1` are OpenAI's, and its clients call them unchanged: the base URL is `http://HOST:PORT/v1`. With
keys (`auth.enabled`), every route but `/health` and `/ready` wants `Authorization: Bearer <key>`, with the
scope that stands beside it. Agents search and ask at `/mcp` ([calling.md](calling.md)).

The examples are run by a test, one after the other, against a server with the store `demo`. They want this:
```bash
export FEWSHOT=http://127.0.0.1:8000 OPENAI_API_KEY=any  # a key, where the server wants one
export OPENAI_BASE_URL=$FEWSHOT/v1
```
`jq` reads ids out of answers, for the calls that follow.

Bodies are JSON in UTF-8. `null` means absent. A field that would change the answer and is not offered is a
400 that names it; so is an unknown one, unless `server.unknown_fields = "report"`.
"""
HEADERS = """## Headers

| of a request | meaning |
|---|---|
| `Authorization: Bearer <key>` | the key |
| `X-Request-Timeout` | seconds this request may take, 0.1 to 3600; then 504 |
| `X-Client-Request-Id`, `X-Request-Id` | kept with the answer in the journal |

| of an answer | meaning |
|---|---|
| `x-request-id` | of every answer; name it when something is wrong |
| `retry-after`, `retry-after-ms`, `x-should-retry` | whether and when to ask again |
| `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | of generation and embeddings; limits of the key |
| `x-fewshot-{id,template,arm,generation,prompt,grounding}` | what made the answer, as in its `fewshot` |
| `openai-poll-after-ms` | of a file that is being read |
"""
TITLES = {
    "models": "Models",
    "chat": "Chat",
    "completions": "Completions",
    "responses": "Responses",
    "embeddings": "Embeddings",
    "classify": "Labels",
    "files": "Files",
    "vector_stores": "Vector stores",
    "feedback": "Feedback",
    "replay": "Replay",
    "adapters": "Adapters",
    "load_lora_adapter": "Adapters",
    "unload_lora_adapter": "Adapters",
    "experiments": "Experiments",
}
SERVER = "The server itself"
CLASSES: Mapping[str, Mapping[str, Class]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/vector_stores/{store_id}/search": STORE_SEARCH,
}
# Parts of requests that stand in several: told once.
SHARED = {"FewshotRequest": "fewshot", "FileSearch": "file_search", "RankingOptions": "ranking_options"}
# Parts of answers that stand in several, by the names that the outlines give them.
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
LONGEST_LINE = 80  # of a body, before it gets several
DEEPEST = 6  # levels of a request's fields


class Operation(NamedTuple):
    method: str
    path: str
    said: Mapping[str, Any]  # of the document

    @property
    def scope(self) -> str:
        security = self.said.get("security")
        return f"`{security[0]['key'][0]}`" if security else "none"

    @property
    def title(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9 _-]", "", self.title.lower()).replace(" ", "-")

    @property
    def about(self) -> str:
        return " ".join(str(self.said.get("description", "")).split())


def document() -> dict[str, Any]:
    return describe(create_app(None, metrics=Metrics()))  # type: ignore[arg-type]  # nothing is opened


def operations(said: Mapping[str, Any]) -> list[Operation]:
    return [
        Operation(method, path, operation)
        for path, methods in said["paths"].items()
        for method, operation in methods.items()
    ]


def api_page(note: str) -> str:
    said = document()
    grouped: dict[str, list[Operation]] = {title: [] for title in TITLES.values()}
    for operation in sorted(operations(said), key=_in_life):
        grouped.setdefault(_group(operation.path), []).append(operation)
    server = grouped.pop(SERVER, [])
    grouped = {title: members for title, members in grouped.items() if members} | {SERVER: server}
    lines = [note, INTRODUCTION, *_contents(grouped), HEADERS, *_statuses(said)]
    for title, members in grouped.items():
        lines += [f"## {title}\n"]
        for operation in members:
            lines += _operation(operation, said)
        if title in PYTHON:
            lines += ["With the `openai` client:", "```python", PYTHON[title].strip(), "```\n"]
    lines += ["## Parts of requests\n"]
    for name, title in SHARED.items():
        lines += [f"### {title}\n", *_fields_table(said["components"]["schemas"][name], said), ""]
    lines += ["## Parts of answers\n"]
    for name, shape in PARTS.items():
        lines += [f"### {name}\n", "```text", *_outline(shape), "```\n"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _in_life(operation: Operation) -> int:
    """What undoes comes last: the examples are run in the order of the page."""
    if operation.method == "delete":
        return 3
    return {"promote": 1, "rollback": 2, "unload": 2}.get(operation.path.rpartition("/")[2], 0)


def _group(path: str) -> str:
    if not path.startswith("/v1/"):
        return SERVER
    segment = path.split("/")[2]
    return TITLES.get(segment, segment.replace("_", " ").capitalize())


def _contents(grouped: Mapping[str, list[Operation]]) -> Iterator[str]:
    yield "| route | scope | |\n|---|---|---|"
    for members in grouped.values():
        for one in members:
            yield f"| [`{one.title}`](#{one.anchor}) | {one.scope} | {_cell(one.about.split('. ')[0])} |"
    yield ""


def _statuses(said: Mapping[str, Any]) -> Iterator[str]:
    """Every status but 200, told once; and the codes of the error body."""
    yield "## Statuses\n"
    yield 'Every failure is `{"error": {"message", "type", "param", "code"}}`: `message` says what to do,'
    yield "`param` names the field, `code` is stable.\n"
    yield "| status | when | `code` |\n|---|---|---|"
    told: dict[str, str] = {}
    for operation in operations(said):
        for status, response in operation.said["responses"].items():
            if status != "200":
                told.setdefault(status, response["description"])
    for status, says in sorted(told.items()):
        codes = sorted({row.code for row in TABLE.values() if str(row.status) == status} | _extra(status))
        yield f"| {status} | {_cell(says)} | {', '.join(f'`{code}`' for code in codes)} |"
    yield ""


def _extra(status: str) -> set[str]:
    return {"internal_error"} if status == "500" else set()


def _operation(operation: Operation, said: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {operation.title}\n"
    yield f"{operation.about}\n"
    statuses = " ".join(sorted(operation.said["responses"]))
    yield f"Scope: {operation.scope}. Statuses: {statuses}.\n"
    if parameters := operation.said.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for one in parameters:
            kind, limits = _kind(one["schema"], said)
            yield f"| `{one['name']}` | {one['in']} | {_cell(kind)} | {_cell(limits)} |"
        yield ""
    for media, content in operation.said.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{media}`:\n"
        yield from _fields_table(content["schema"], said, CLASSES.get(operation.path, {}))
        yield ""
    for media, content in operation.said["responses"].get("200", {}).get("content", {}).items():
        named = [name for name, part in PARTS.items() if part == content["schema"]]
        if named:
            yield f"Answer: a [{named[0]}](#{named[0]}).\n"
        elif media == "application/json":
            yield "Answer:\n```text"
            yield from _outline(content["schema"])
            yield "```\n"
        else:
            yield f"Answer as `{media}`{', with `stream: true`' if media == 'text/event-stream' else ''}.\n"
    for call in EXAMPLES.get((operation.method.upper(), operation.path), ()):
        yield "```bash"
        yield curl(call, operation)
        yield "```\n"


def curl(call: Call, operation: Operation) -> str:
    """The call as a shell command; ids of earlier examples are shell variables."""
    method, _, address = (call.path or operation.title).partition(" ")
    for parameter, variable in {**VARIABLES, **call.names}.items():
        address = address.replace(f"{{{parameter}}}", f"${variable}")
    words = ["curl -s"]
    if method != ("POST" if call.body is not None or call.form else "GET"):
        words.append(f"-X {method}")
    quoted = f'"$FEWSHOT{address}"' if "?" in address or "&" in address else f"$FEWSHOT{address}"
    words += [quoted, '-H "Authorization: Bearer $OPENAI_API_KEY"']
    lines = [" ".join(words)]
    if call.body is not None:
        lines.append(f'-H "Content-Type: application/json" -d {_json(call.body)}')
    lines += [f"-F {part}" for part in call.form]
    command = " \\\n  ".join(lines)
    if call.keep:
        command = f"{call.keep}=$({command} | jq -r .id)"
    return command if call.status == 200 else f"# a {call.status}\n{command}"


VARIABLES = {
    "store_id": "STORE",
    "file_id": "FILE",
    "batch_id": "BATCH",
    "response_id": "RESPONSE",
    "adapter_id": "ADAPTER",
}


def _json(body: Any) -> str:
    """A body in single quotes, outside of which shell variables stand; a line a key where it is long."""
    said = json.dumps(body, ensure_ascii=False)
    if len(said) > LONGEST_LINE:
        rows = [f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in body.items()]
        said = "{\n" + ",\n".join(rows) + "\n}"
    return "'" + re.sub(r"[$][A-Z]+", lambda name: f"'{name[0]}'", said) + "'"


def _fields_table(
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
        kind, limits = _kind(raw, said)
        star = "*" if name in required else ""
        about = _about(raw, said)
        if class_of(classes, f"{prefix}{name}") == "I":
            about = f"{about}; changes nothing" if about else "changes nothing"
        shared = [SHARED[ref] for ref in _references(raw, said) if ref in SHARED]
        if shared:
            about = f"{about}; see " if about else "see "
            about += ", ".join(f"[{one}](#{one})" for one in shared)
        yield f"| `{prefix}{name}`{star} | {_cell(kind)} | {_cell(limits)} | {_cell(about)} |"
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


def _kind(schema: Shape, said: Mapping[str, Any]) -> tuple[str, str]:
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
        inner, inside = _kind(schema.get("items", {}), said)
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


def _outline(shape: Shape, indent: str = "") -> Iterator[str]:
    """The shape of an answer, a line a key."""
    for key, inner in shape.get("properties", {}).items():
        word, deeper = _named(inner)
        yield f"{indent}{key}{'' if not word else ': ' + word}"
        for number, one in enumerate(deeper):
            if number:
                yield f"{indent}  … or"
            yield from _outline(one, indent + "  ")


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
