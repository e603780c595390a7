"""docs/api.md: /openapi.json as a page to read, with examples that a test runs against a server."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from deploy.api_examples import EXAMPLES, PYTHON, Call
from deploy.api_shapes import PARTS, SHARED, fields_table, kind_of, outline, table_cell
from server.app import create_app
from server.metrics import Metrics
from server.openapi import describe
from server.wire.fields import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, STORE_SEARCH, Class
from server.wire.problems import TABLE

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
# Parts of answers that stand in several, by the names that the outlines give them.
LONGEST_LINE = 80  # of a body, before it gets several


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
        lines += [f"### {title}\n", *fields_table(said["components"]["schemas"][name], said), ""]
    lines += ["## Parts of answers\n"]
    for name, shape in PARTS.items():
        lines += [f"### {name}\n", "```text", *outline(shape), "```\n"]
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
            yield f"| [`{one.title}`](#{one.anchor}) | {one.scope} | {table_cell(one.about.split('. ')[0])} |"
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
        yield f"| {status} | {table_cell(says)} | {', '.join(f'`{code}`' for code in codes)} |"
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
            kind, limits = kind_of(one["schema"], said)
            yield f"| `{one['name']}` | {one['in']} | {table_cell(kind)} | {table_cell(limits)} |"
        yield ""
    for media, content in operation.said.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{media}`:\n"
        yield from fields_table(content["schema"], said, CLASSES.get(operation.path, {}))
        yield ""
    for media, content in operation.said["responses"].get("200", {}).get("content", {}).items():
        named = [name for name, part in PARTS.items() if part == content["schema"]]
        if named:
            yield f"Answer: a [{named[0]}](#{named[0]}).\n"
        elif media == "application/json":
            yield "Answer:\n```text"
            yield from outline(content["schema"])
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
