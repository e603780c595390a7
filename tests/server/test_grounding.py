"""What a search leads to: the policies of request, alias and template, all combinations, on every route."""

import itertools
import json
import shutil

import httpx
import pytest
from click.testing import CliRunner

from indexer.commands.ingest import ingest
from prompts.templates import SHIPPED, Library
from server.aliases import Alias
from tests.server.conftest import ROWS

POLICIES = (None, "answer", "refuse", "error")
ROUTES = ("chat/completions", "completions", "responses")
MODELS_WORDS = "Said by the model."
TEMPLATES_WORDS = "The sources do not answer this."  # parts.refusal of `grounded`


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A data folder with the store `facts`, and the store `broken`, whose files are not what they were."""
    here = shutil.copytree(data, tmp_path_factory.mktemp("grounding") / "data")
    before = set((here / "stores").iterdir())
    file = here / "more.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    done = CliRunner().invoke(
        ingest, [str(file), "--store", "broken", "--data", str(here), "--embedder", "hash"]
    )
    assert done.exit_code == 0, done.output
    (store,) = set((here / "stores").iterdir()) - before
    for part in store.rglob("*"):
        if part.is_file():
            part.write_bytes(bytes(part.stat().st_size))
    return here


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The shipped templates, and `grounded` with each policy of its own: grounded-answer and so on."""
    here = tmp_path_factory.mktemp("templates")
    wording = (SHIPPED / "grounded" / "1.toml").read_text()
    for policy in POLICIES[1:]:
        named = wording.replace('name = "grounded"', f'name = "grounded-{policy}"')
        (here / f"grounded-{policy}").mkdir()
        (here / f"grounded-{policy}" / "1.toml").write_text(
            named.replace("[retrieval]\n", f'[retrieval]\nwhen_empty = "{policy}"\n')
        )
    return Library.load(here)


def body_of(route, store, request, alias, template):
    wishes = {"vector_store_ids": [store], "when_empty": request}
    wishes["template"] = f"grounded-{template}" if template else "grounded"
    question = "How long do cats sleep?"
    said = {
        "chat/completions": {"messages": [{"role": "user", "content": question}]},
        "completions": {"prompt": question},
        "responses": {"input": question},
    }[route]
    return {"model": f"with-{alias}" if alias else "echo", "fewshot": wishes, **said}


def text_of(route, said):
    if route == "responses":
        return said["output"][-1]["content"][0]["text"]
    choice = said["choices"][0]
    return choice["message"]["content"] if route == "chat/completions" else choice["text"]


def tokens_of(said):
    return said["usage"]["total_tokens"]


def check(route, store, policy, answer):
    """`policy`: of the first of request, alias, template that has one."""
    said = answer.json()
    if store == "broken":
        assert answer.status_code == 503
        assert said["error"]["code"] == "retrieval_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    elif store == "facts":
        assert answer.status_code == 200
        assert (said["fewshot"]["grounding"], text_of(route, said)) == ("grounded", MODELS_WORDS)
        assert answer.headers["x-fewshot-grounding"] == "grounded"
    elif policy == "error":
        assert answer.status_code == 404
        assert said["error"]["code"] == "no_relevant_sources"
    else:
        assert answer.status_code == 200
        words = MODELS_WORDS if policy == "answer" else TEMPLATES_WORDS
        grounding = "ungrounded" if policy == "answer" else "refused"
        assert (said["fewshot"]["grounding"], text_of(route, said)) == (grounding, words)
        assert answer.headers["x-fewshot-grounding"] == grounding
        assert said["fewshot"]["sources"] == []
        assert (tokens_of(said) > 0) is (policy == "answer")  # a refusal never asks the model


def test_the_request_decides_before_the_alias_before_the_template(serve, folder, library):
    aliases = [Alias(name=f"with-{policy}", model="echo", when_empty=policy) for policy in POLICIES[1:]]
    seen = set()
    with (
        serve(folder=folder, library=library, aliases=aliases, reply=MODELS_WORDS) as running,
        httpx.Client(base_url=running.url, timeout=20) as client,
    ):
        empty = client.post("/v1/vector_stores", json={"name": "empty"}).json()["id"]
        for said in itertools.product(POLICIES, repeat=3):
            policy = next((one for one in said if one), "refuse")
            for route, store in itertools.product(ROUTES, ("facts", empty, "broken")):
                answer = client.post(f"/v1/{route}", json=body_of(route, store, *said))
                try:
                    check(route, store, policy, answer)
                except (AssertionError, KeyError) as problem:
                    pytest.fail(
                        f"{route} {store} {said}: {answer.status_code} {answer.text[:500]}\n{problem}"
                    )
                seen.add((answer.status_code, policy))
        metrics = client.get("/metrics").text
    assert len(seen) == 3 * 2 + 1  # 200 and 503 under each policy, and 404 under one
    for policy in POLICIES[1:]:
        assert f'fewshot_retrieval_empty_total{{policy="{policy}"}}' in metrics


@pytest.mark.parametrize(
    ("request_words", "alias_words", "heard"),
    [
        ("of the request", "of the alias", "of the request"),
        (None, "of the alias", "of the alias"),
        (None, None, TEMPLATES_WORDS),
    ],
)
def test_whose_words_refuse(serve, folder, request_words, alias_words, heard):
    aliases = [Alias(name="strict", model="echo", when_empty="refuse", refusal_text=alias_words)]
    with serve(folder=folder, aliases=aliases) as running:
        client = running.client()
        empty = client.vector_stores.create(name="empty").id
        wishes = {"vector_store_ids": [empty], "refusal_text": request_words}
        done = client.chat.completions.create(
            model="strict", messages=[{"role": "user", "content": "Why?"}], extra_body={"fewshot": wishes}
        )
        assert done.choices[0].message.content == heard


def test_a_template_with_an_unknown_policy_is_refused(tmp_path):
    (tmp_path / "grounded-loud").mkdir()
    wording = (SHIPPED / "grounded" / "1.toml").read_text()
    named = wording.replace('name = "grounded"', 'name = "grounded-loud"')
    (tmp_path / "grounded-loud" / "1.toml").write_text(
        named.replace("[retrieval]\n", '[retrieval]\nwhen_empty = "shout"\n')
    )
    with pytest.raises(Exception, match=r"retrieval\.when_empty must be one of answer, refuse, error"):
        Library.load(tmp_path)
