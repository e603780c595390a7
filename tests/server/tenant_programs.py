"""Random calls of two tenants over every route, and what neither may ever see of the other.

Three laws a call:
- no id, and no word, of the other tenant in the body or the headers, but for ids that the call itself named;
- no id of the other tenant opens anything, and nothing fails as a bug;
- a call that names foreign ids is answered as the same call with ids that never existed: same status, same
  bytes but for the request id and the ids named.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

KINDS = ("file-", "vs_", "vsfb_", "resp_", "chatcmpl-", "cmpl-", "clsf-", "fb_", "msg_", "fs_", "ch_")
ID = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(KINDS)})[0-9A-Za-z]{{20,}}")
OF_PARAMETER = {"store_id": "vs_", "file_id": "file-", "batch_id": "vsfb_", "response_id": "resp_"}
TOPICS = ("vault", "garden", "kitchen", "harbour", "library")
QUESTIONS = ("Where is it kept?", "What is in the vault?", "kitchen or harbour", "cats sleep", "library")


@dataclass
class Tenant:
    name: str
    word: str  # in all its texts, and in nobody else's
    client: httpx.Client
    ids: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    inside: dict[str, list[tuple[str, str]]] = field(
        default_factory=lambda: {"file_id": [], "batch_id": []}
    )  # (store, what is in it)

    def learn(self, found: set[str]) -> None:
        for one in sorted(found):
            kind = next(kind for kind in KINDS if one.startswith(kind))
            if one not in self.ids[kind]:
                self.ids[kind].append(one)

    @property
    def all_ids(self) -> set[str]:
        return {one for ids in self.ids.values() for one in ids}


@dataclass
class Call:
    method: str
    path: str  # with {names} for ids
    body: Any = None
    named: dict[str, str] = field(default_factory=dict)  # placeholder → id
    form: bool = False
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def id(self, one: str) -> str:
        name = f"{{id{len(self.named)}}}"
        self.named[name] = one
        return name


class Programs:
    """The two tenants, what each was told, and how to make them ask."""

    def __init__(
        self, tenants: tuple[Tenant, Tenant], routes: list[tuple[str, str]], common: set[str], seed: int
    ):
        self.tenants = tenants
        self.routes = routes
        self.common = common
        self.random = random.Random(seed)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.opened: Counter[tuple[str, str]] = Counter()  # calls that got what they asked for
        self.twins = 0
        self.exposition = b""  # of the metrics, at the end

    def step(self) -> None:
        tenant, other = self.random.sample(self.tenants, 2)
        route = self.random.choices(self.routes, [3 if route in MAKING else 1 for route in self.routes])[0]
        call = self.make(route, tenant, other)
        self.calls[route] += 1
        answer = self.send(tenant, call, call.named)
        self.statuses[answer.status_code] += 1
        self.opened[route] += answer.status_code == 200 and '"isError":true' not in answer.text
        about = (tenant.name, route, call, answer.status_code, answer.text[:600])
        assert answer.status_code < 500, about
        told = answer.text + str(answer.headers.multi_items())
        found = set(ID.findall(told)) - self.common
        foreign = set(call.named.values()) & other.all_ids
        absent = {one for one in call.named.values() if one not in other.all_ids | tenant.all_ids}
        assert not (found - foreign) & other.all_ids, about
        assert other.word not in told, about
        tenant.learn(found - foreign - absent)
        if answer.status_code == 200 and call.method == "POST":
            self.note_inside(tenant, answer)
        if foreign:
            self.compare(tenant, call, answer, foreign, about)

    def note_inside(self, tenant: Tenant, answer: httpx.Response) -> None:
        said = answer.json() if answer.headers["content-type"] == "application/json" else {}
        if said.get("object") == "vector_store.file":
            tenant.inside["file_id"].append((said["vector_store_id"], said["id"]))
        if said.get("object") == "vector_store.files_batch":
            tenant.inside["batch_id"].append((said["vector_store_id"], said["id"]))

    def compare(
        self, tenant: Tenant, call: Call, answer: httpx.Response, foreign: set[str], about: Any
    ) -> None:
        """The same call with neighbours of the foreign ids: they sort alike and never existed."""
        swapped = {name: never(one) if one in foreign else one for name, one in call.named.items()}
        twin = self.send(tenant, call, swapped)
        self.twins += 1
        assert twin.status_code == answer.status_code, (about, twin.text)
        said, again = masked(answer, call.named), masked(twin, swapped)
        if answer.status_code >= 400 or call.path == "/mcp":  # whose tools refuse in a 200
            assert said == again, (about, twin.text)
            assert sorted(answer.headers.keys()) == sorted(twin.headers.keys()), about
        else:  # only a cursor: a place in the order of ids
            assert set(ID.findall(said)) == set(ID.findall(again)), (about, twin.text)
            assert {"after", "before"} & set(call.query), about

    def send(self, tenant: Tenant, call: Call, named: dict[str, str]) -> httpx.Response:
        path = filled(call.path, named)
        query = {name: filled(value, named) for name, value in call.query.items()}
        if call.form:
            files = {"file": (f"{tenant.word}.txt", call.body.encode())}
            return tenant.client.post(path, data={"purpose": "assistants"}, files=files)
        body = None if call.body is None else json.loads(filled(json.dumps(call.body), named))
        return tenant.client.request(call.method, path, json=body, params=query, headers=call.headers)

    def pick(self, call: Call, kind: str, tenant: Tenant, other: Tenant) -> str:
        """A placeholder for an id: mostly the tenant's own, else the other's, else nobody's."""
        whose = self.random.choices((tenant, other, None), (6, 3, 1))[0]
        known = [one for one in whose.ids[kind] if one not in self.common] if whose else []
        some = self.random.choice(known[-12:]) if known else never(kind + "0" * 26)
        return call.id(some)

    def pair(self, path: str, tenant: Tenant, other: Tenant) -> dict[str, str]:
        """Mostly, where a path names a thing in a store: a store and a thing that is really in it."""
        for inner in ("file_id", "batch_id"):
            whose = self.random.choices((tenant, other), (6, 3))[0]
            some = whose.inside[inner][-4:]
            if some and "{store_id}/file" in path and f"{{{inner}}}" in path and self.maybe(0.75):
                return dict(zip(("store_id", inner), self.random.choice(some), strict=True))
        return {}

    def make(self, route: tuple[str, str], tenant: Tenant, other: Tenant) -> Call:
        method, path = route
        call = Call(method, path)

        def pick(kind: str) -> str:
            return self.pick(call, kind, tenant, other)

        together = self.pair(path, tenant, other)

        def fill(match: re.Match[str]) -> str:
            name = match[1].partition(":")[0]
            if name in together:
                return call.id(together[name])
            return pick(OF_PARAMETER.get(name) or self.random.choice(KINDS))

        recipe = RECIPES.get(route)
        if method == "DELETE" and self.random.random() < 0.6:  # or soon nobody has anything
            call.method = "GET"
        call.path = re.sub(r"\{([^}]+)\}", fill, path)
        if recipe is not None:
            recipe(self, call, tenant, pick)
        elif method in ("POST", "PUT", "PATCH"):
            call.body = {} if "{" in path else {"id": pick(self.random.choice(KINDS))}
        said = call.path + json.dumps(call.body) + str(call.query)
        call.named = {name: one for name, one in call.named.items() if name in said}
        return call

    def sentence(self, tenant: Tenant) -> str:
        topic, number = self.random.choice(TOPICS), self.random.randrange(10_000)
        return f"The {topic} of {tenant.word} holds item {number}. It is kept in the {topic}."

    def question(self, tenant: Tenant) -> str:
        return self.random.choice((*QUESTIONS, tenant.word))

    def maybe(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance


Pick = Callable[[str], str]
Recipe = Callable[[Programs, Call, Tenant, Pick], None]


def _upload(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.form, call.body = True, programs.sentence(tenant)


def _listing(kind: str) -> Recipe:
    def make(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
        call.query = {"limit": str(programs.random.choice((1, 3, 20)))}
        if programs.maybe():
            call.query[programs.random.choice(("after", "before"))] = pick(kind)

    return make


def _store(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"name": f"{tenant.word} store", "metadata": {"of": tenant.word}}
    if programs.maybe():
        call.body["file_ids"] = [pick("file-") for _ in range(programs.random.randint(1, 2))]


def _change(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"name": f"{tenant.word} again"}


def _search(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"query": programs.question(tenant), "max_num_results": 20}
    if programs.maybe(0.3):
        call.body["filters"] = {"type": "ne", "key": "nothing", "value": 1}
    if programs.maybe(0.1):
        call.path = "/v1/vector_stores/facts/search"
        call.named.clear()


def _attach(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"file_id": pick("file-"), "attributes": {"of": tenant.word}}
    if programs.maybe(0.2):
        call.body["fewshot"] = {"replaces": pick("file-")}


def _describe(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"attributes": {"of": tenant.word, "n": programs.random.randrange(9)}}


def _batch(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"file_ids": [pick("file-") for _ in range(programs.random.randint(1, 3))]}


def _asked(programs: Programs, call: Call, pick: Pick) -> None:
    """Sometimes with stores, by OpenAI's tool or ours."""
    stores = [pick("vs_") for _ in range(programs.random.randint(1, 2))]
    if programs.maybe(0.1):
        stores[0] = "facts"
    if programs.maybe() and "prompt" not in call.body:
        call.body["tools"] = [{"type": "file_search", "vector_store_ids": stores}]
    elif "input" not in call.body and programs.maybe(0.7):
        call.body["fewshot"] = {
            "vector_store_ids": stores,
            "when_empty": programs.random.choice(("answer", "refuse", "error")),
            "inspect": programs.maybe(),
            "citations": programs.random.choice(("markers", "links")),
        }


def _chat(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"model": "echo", "messages": [{"role": "user", "content": programs.question(tenant)}]}
    call.body |= {"stream": programs.maybe(0.3), "user": tenant.word}
    _asked(programs, call, pick)


def _completion(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"model": "echo", "prompt": programs.question(tenant), "stream": programs.maybe(0.3)}
    _asked(programs, call, pick)


def _response(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"input": programs.question(tenant), "include": ["file_search_call.results"]}
    call.body |= {"stream": programs.maybe(0.3), "metadata": {"of": tenant.word}}
    if programs.maybe(0.4):
        call.body["previous_response_id"] = pick("resp_")
    _asked(programs, call, pick)


def _model(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    if programs.maybe():
        call.path = "/v1/models/echo"


def _embed(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    call.body = {"model": "hash", "input": programs.sentence(tenant)}


def _classify(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    texts = [programs.sentence(tenant), programs.question(tenant)]
    call.body = {"model": "echo", "template": "question-type", "input": texts, "user": tenant.word}


def _feedback(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    kind = programs.random.choice(("chatcmpl-", "cmpl-", "resp_", "clsf-"))
    call.body = {"id": pick(kind), "metric": "thumb", "value": True, "comment": tenant.word}


def _tool(programs: Programs, call: Call, tenant: Tenant, pick: Pick) -> None:
    """In the protocol of today, which needs no session: the list of tools, or a call of one."""
    method, params = "tools/list", {}
    if programs.maybe(0.8):
        method = "tools/call"
        name, words = programs.random.choice((("search", "query"), ("ask", "question")))
        stores = [pick("vs_") for _ in range(programs.random.randint(1, 2))]
        params = {"name": name, "arguments": {words: programs.question(tenant), "vector_store_ids": stores}}
        call.headers["mcp-name"] = name
    call.headers |= {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    about = {"protocolVersion": "2026-07-28", "clientCapabilities": {}}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in about.items()}
    call.body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


FILES = "/v1/vector_stores/{store_id}/files"
BATCHES = "/v1/vector_stores/{store_id}/file_batches"
RECIPES: dict[tuple[str, str], Recipe] = {
    ("POST", "/v1/files"): _upload,
    ("GET", "/v1/files"): _listing("file-"),
    ("POST", "/v1/vector_stores"): _store,
    ("GET", "/v1/vector_stores"): _listing("vs_"),
    ("POST", "/v1/vector_stores/{store_id}"): _change,
    ("POST", "/v1/vector_stores/{store_id}/search"): _search,
    ("POST", FILES): _attach,
    ("GET", FILES): _listing("file-"),
    ("POST", FILES + "/{file_id}"): _describe,
    ("POST", BATCHES): _batch,
    ("GET", BATCHES + "/{batch_id}/files"): _listing("file-"),
    ("POST", "/v1/chat/completions"): _chat,
    ("POST", "/v1/completions"): _completion,
    ("POST", "/v1/responses"): _response,
    ("GET", "/v1/responses/{response_id}/input_items"): _listing("msg_"),
    ("POST", "/v1/embeddings"): _embed,
    ("POST", "/v1/classify"): _classify,
    ("GET", "/v1/models/{name:path}"): _model,
    ("POST", "/v1/feedback"): _feedback,
    ("POST", "/mcp"): _tool,
}

MAKING = {route for route in RECIPES if route[0] == "POST"}  # more often: or there is little to be shown


def filled(text: str, named: dict[str, str]) -> str:
    for name, one in named.items():
        text = text.replace(name, one)
    return text


def masked(answer: httpx.Response, named: dict[str, str]) -> str:
    """The body without the ids that the call named and the request's own."""
    text = answer.text.replace(answer.headers["x-request-id"], "request")
    for name, one in named.items():
        text = text.replace(one, name)
    return text


def never(one: str) -> str:
    """An id right beside this one that nobody ever had."""
    return one[:-1] + ("Z" if one[-1] != "Z" else "Y")
