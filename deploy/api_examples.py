"""The examples of docs/api.md, by route: data. They are run in the order of the page, one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Call(NamedTuple):
    """One request as the page shows it with curl. `$NAMES` stand for ids that earlier calls kept."""

    body: Any = None
    form: Sequence[str] = ()  # of curl's -F
    keep: str | None = None  # the shell variable for the id in the answer
    path: str | None = None  # "METHOD path" where that is not the route's own, such as with a query
    names: Mapping[str, str] = {}  # path parameter → shell variable, where it is not the usual one
    status: int = 200


MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
UPLOAD = ("purpose=assistants", "file=@handbook.txt")
QUESTION = "How long do cats sleep?"
ASKED = [{"role": "user", "content": QUESTION}]
S, F = "/v1/vector_stores", "/v1/vector_stores/{store_id}/files"
A, X = "/v1/adapters/{adapter_id}", "/v1/experiments/{experiment}"
B = "/v1/vector_stores/{store_id}/file_batches"

EXAMPLES: Mapping[tuple[str, str], Sequence[Call]] = {
    ("GET", "/v1/models"): [Call()],
    ("GET", "/v1/models/{name}"): [Call(path="GET /v1/models/smollm2-135m-instruct")],
    ("POST", "/v1/chat/completions"): [
        Call(
            body={
                "model": MODEL,
                "messages": ASKED,
                "temperature": 0,
                "fewshot": {"vector_store_ids": ["demo"], "when_empty": "refuse"},
            },
            keep="ANSWER",
        ),
        Call(
            body={
                "model": MODEL,
                "messages": ASKED,
                "tools": [
                    {
                        "type": "file_search",
                        "vector_store_ids": ["demo"],
                        "max_num_results": 3,
                        "ranking_options": {"score_threshold": 0.1},
                    }
                ],
            }
        ),
        Call(body={"model": MODEL, "messages": ASKED, "mistake": True}, status=400),
    ],
    ("POST", "/v1/completions"): [
        Call(body={"model": MODEL, "prompt": "The capital of France is", "max_tokens": 8, "logprobs": 1})
    ],
    ("POST", "/v1/responses"): [
        Call(
            body={
                "model": MODEL,
                "input": QUESTION,
                "tools": [{"type": "file_search", "vector_store_ids": ["demo"]}],
                "include": ["file_search_call.results"],
            },
            keep="RESPONSE",
        ),
        Call(body={"model": MODEL, "input": "And dogs?", "previous_response_id": "$RESPONSE"}, keep="NEXT"),
    ],
    ("GET", "/v1/responses/{response_id}"): [
        Call(),
        Call(path="GET /v1/responses/{response_id}?include[]=file_search_call.results"),
    ],
    ("GET", "/v1/responses/{response_id}/input_items"): [Call()],
    ("DELETE", "/v1/responses/{response_id}"): [Call(names={"response_id": "NEXT"})],
    ("POST", "/v1/responses/{response_id}/cancel"): [Call(status=400)],
    ("POST", "/v1/embeddings"): [
        Call(body={"model": EMBEDDER, "input": ["Cats sleep.", "Tea steeps."], "encoding_format": "float"}),
        Call(body={"model": EMBEDDER, "input": QUESTION, "fewshot": {"input_type": "query"}}),
    ],
    ("POST", "/v1/classify"): [
        Call(body={"model": MODEL, "template": "question-type", "input": ["How far is the moon?"]})
    ],
    ("POST", "/v1/files"): [Call(form=UPLOAD, keep="FILE")],
    ("GET", "/v1/files"): [Call(path="GET /v1/files?limit=2&order=desc")],
    ("GET", "/v1/files/{file_id}"): [Call()],
    ("GET", "/v1/files/{file_id}/content"): [Call()],
    ("DELETE", "/v1/files/{file_id}"): [
        Call(path="POST /v1/files", form=UPLOAD, keep="GONE"),
        Call(names={"file_id": "GONE"}),
    ],
    ("POST", S): [
        Call(
            body={"name": "handbook", "expires_after": {"anchor": "last_active_at", "days": 30}}, keep="STORE"
        )
    ],
    ("GET", S): [Call(path=f"GET {S}?limit=10")],
    ("GET", S + "/{store_id}"): [Call()],
    ("POST", S + "/{store_id}"): [Call(body={"metadata": {"owner": "people"}, "expires_after": None})],
    ("DELETE", S + "/{store_id}"): [
        Call(path=f"POST {S}", body={"name": "scratch"}, keep="SCRATCH"),
        Call(names={"store_id": "SCRATCH"}),
    ],
    ("POST", S + "/{store_id}/search"): [
        Call(
            body={
                "query": "cats",
                "max_num_results": 3,
                "filters": {"type": "lt", "key": "degrees", "value": 100},
            },
            path=f"POST {S}/demo/search",
        )
    ],
    ("POST", F): [Call(body={"file_id": "$FILE", "attributes": {"year": 2026}})],
    ("GET", F): [Call(path=f"GET {F}?filter=completed")],
    ("GET", F + "/{file_id}"): [Call()],
    ("POST", F + "/{file_id}"): [Call(body={"attributes": {"year": 2027, "draft": False}})],
    ("GET", F + "/{file_id}/content"): [Call()],
    ("DELETE", F + "/{file_id}"): [Call()],
    ("POST", B): [Call(body={"file_ids": ["$FILE"]}, keep="BATCH")],
    ("GET", B + "/{batch_id}"): [Call()],
    ("GET", B + "/{batch_id}/files"): [Call()],
    ("POST", B + "/{batch_id}/cancel"): [Call()],
    ("POST", "/v1/feedback"): [
        Call(body={"id": "$ANSWER", "metric": "thumb", "value": True, "comment": "Right, and short."})
    ],
    ("GET", "/v1/replay/{response_id}"): [Call()],
    ("POST", "/v1/replay/{response_id}"): [Call()],
    ("GET", "/v1/adapters"): [Call()],
    ("POST", "/v1/adapters"): [Call(body={"name": "letters", "inbox": "letters-june"}, keep="ADAPTER")],
    ("GET", "/v1/adapters/steps"): [Call()],
    ("GET", A): [Call()],
    ("POST", A + "/load"): [Call(body={})],
    ("POST", A + "/unload"): [Call(body={"drain_seconds": 5}, names={"adapter_id": "NEWER"})],
    ("POST", A + "/promote"): [Call(body={"alias": "letters", "reason": "first"})],
    ("POST", "/v1/adapters/rollback"): [
        Call(path="POST /v1/adapters", body={"name": "letters", "inbox": "letters-july"}, keep="NEWER"),
        Call(path=f"POST {A}/promote", body={"alias": "letters"}, names={"adapter_id": "NEWER"}),
        Call(body={"alias": "letters", "reason": "June was better"}),
    ],
    ("POST", "/v1/load_lora_adapter"): [Call(body={"lora_name": "notes", "lora_path": "notes-june"})],
    ("POST", "/v1/unload_lora_adapter"): [Call(body={"lora_name": "notes"})],
    ("DELETE", A): [
        Call(path="POST /v1/adapters", body={"name": "spare", "inbox": "spare-june"}, keep="SPARE"),
        Call(names={"adapter_id": "SPARE"}),
    ],
    ("GET", "/v1/experiments"): [Call()],
    ("GET", X): [Call(path="GET /v1/experiments/shots")],
    ("GET", X + "/report"): [Call(path="GET /v1/experiments/shots/report")],
    ("POST", X + "/promote"): [
        Call(path="POST /v1/experiments/shots/promote", body={"arm": "shown"}, status=409),
        Call(
            path="POST /v1/experiments/shots/promote",
            body={"arm": "shown", "force": True, "reason": "the launch is today"},
        ),
    ],
    ("POST", X + "/rollback"): [
        Call(path="POST /v1/experiments/shots/rollback", body={"reason": "too early"})
    ],
    ("POST", X + "/stop"): [Call(path="POST /v1/experiments/shots/stop", body={"reason": "a fault"})],
    ("GET", "/health"): [Call()],
    ("GET", "/ready"): [Call()],
    ("GET", "/version"): [Call()],
    ("GET", "/metrics"): [Call()],
    ("GET", "/openapi.json"): [Call()],
}

# By the title of a group of routes. `client` and what one example makes is there for the next.
PYTHON: Mapping[str, str] = {
    "Models": """
from openai import OpenAI

client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY
for model in client.models.list():
    print(model.id, model.fewshot["kind"], model.fewshot["bound"])
""",
    "Chat": """
done = client.chat.completions.create(
    model="smollm2-135m-instruct",
    messages=[{"role": "user", "content": "How long do cats sleep?"}],
    extra_body={"fewshot": {"vector_store_ids": ["demo"]}},
)
print(done.choices[0].message.content, done.fewshot["grounding"])
for source in done.fewshot["sources"]:
    print(source["n"], source["title"], source["score"])

stream = client.chat.completions.create(
    model="smollm2-135m-instruct",
    messages=[{"role": "user", "content": "How long do cats sleep?"}],
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    print(chunk.choices[0].delta.content if chunk.choices else chunk.usage.total_tokens)
""",
    "Completions": """
scored = client.completions.create(
    model="smollm2-135m-instruct", prompt="Paris is in France", echo=True, logprobs=1, max_tokens=0
)
print(scored.choices[0].logprobs.token_logprobs)
""",
    "Responses": """
answer = client.responses.create(
    model="smollm2-135m-instruct",
    input="How long do cats sleep?",
    tools=[{"type": "file_search", "vector_store_ids": ["demo"]}],
    include=["file_search_call.results"],
)
print(answer.output_text)
print([hit.filename for hit in answer.output[0].results])
going_on = {"model": "smollm2-135m-instruct", "input": "And tea?", "previous_response_id": answer.id}
with client.responses.stream(**going_on) as events:
    print(events.get_final_response().output_text)
""",
    "Embeddings": """
vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["Cats sleep.", "Tea steeps."])
print(len(vectors.data), len(vectors.data[0].embedding))
""",
    "Files": """
upload = client.files.create(file=("rules.txt", b"Leave is twenty-five days a year."), purpose="assistants")
print(upload.status, client.files.content(upload.id).text)
""",
    "Vector stores": """
store = client.vector_stores.create(name="rules")
file = client.vector_stores.files.create_and_poll(upload.id, vector_store_id=store.id)
print(file.status, file.last_error)
for hit in client.vector_stores.search(store.id, query="How many days of leave are there?"):
    print(hit.score, hit.filename, hit.content[0].text)
""",
    "Feedback": """
opinion = client.post(
    "/feedback", cast_to=dict, body={"id": done.id, "metric": "correction", "value": "Thirteen hours."}
)
print(opinion["id"], opinion["replaced"])
""",
}
