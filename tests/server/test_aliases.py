"""Aliases as callers meet them: listed, answering on every route, each tenant's own."""

import contextlib
import re
import subprocess
import sys

import httpx
import openai
import pytest

from prompts.templates import Library
from server.aliases import Alias, Aliases
from server.records import Sampling
from server.settings import SettingsRefused, load_settings
from server.wiring import open_aliases

QUESTION = [{"role": "user", "content": "How long do cats sleep?"}]
FACTS = Alias(
    name="facts-bot",
    model="echo",
    template="grounded@1",
    vector_stores=("facts",),
    top=2,
    sampling=Sampling(temperature=0.25, seed=7),
    max_tokens=40,
    lock=frozenset({"template", "vector_stores"}),
)
OURS = Alias(name="ours", model="echo", tenant="acme", sampling=Sampling(temperature=0.5))


def test_an_alias_is_listed_with_what_it_stands_for(serve):
    with serve(aliases=[FACTS]) as running:
        client = running.client()
        assert [model.id for model in client.models.list()][:2] == ["echo", "facts-bot"]
        shown = client.models.retrieve("facts-bot").to_dict()
        assert (shown["root"], shown["parent"]) == ("echo", "echo")
        assert shown["max_model_len"] == client.models.retrieve("echo").max_model_len
        assert (shown["fewshot"]["kind"], shown["fewshot"]["base"]) == ("alias", "echo")
        assert shown["fewshot"]["bound"] == {
            "template": "grounded@1",
            "vector_stores": ["facts"],
            "top": 2,
            "sampling": {"temperature": 0.25, "seed": 7},
            "max_tokens": 40,
            "lock": ["template", "vector_stores"],
        }
        assert "facts-bot" in httpx.get(f"{running.url}/version").json()["models"]


def test_it_answers_on_every_route_whole_and_streamed(serve):
    with serve(aliases=[FACTS], reply="They sleep for thirteen hours a day [1].") as running:
        client = running.client()
        chat = client.chat.completions.create(model="facts-bot", messages=QUESTION)
        text = client.completions.create(model="facts-bot", prompt=QUESTION[0]["content"])
        response = client.responses.create(model="facts-bot", input=QUESTION[0]["content"])
        *_, last = [
            chunk
            for chunk in client.chat.completions.create(model="facts-bot", messages=QUESTION, stream=True)
            if getattr(chunk, "fewshot", None)
        ]
        for answer in (chat, text, response, last):
            assert answer.model == "facts-bot"
            told = answer.fewshot
            assert (told["model"]["base"], told["model"]["alias"]) == ("echo", "facts-bot")
            assert (told["template"]["name"], told["grounding"]) == ("grounded", "grounded")
            assert len(told["sources"]) == 2
            assert (told["sampling"]["temperature"], told["sampling"]["seed"]) == (0.25, 7)
            assert told["sampling"]["max_tokens"] == 40
        assert chat.choices[0].message.annotations
        assert response.output[0].type == "file_search_call"
        assert running.journalled(chat.id)["exposures.model"] == "facts-bot"
        assert running.journalled(chat.id)["plans.base"] == "echo"


def test_a_locked_field_is_a_clear_400(serve):
    with serve(aliases=[FACTS]) as running, pytest.raises(openai.BadRequestError) as refused:
        running.client().responses.create(
            model="facts-bot",
            input="Why?",
            tools=[{"type": "file_search", "vector_store_ids": ["facts"]}],
        )
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools[0].vector_store_ids")
    assert "'tools[0].vector_store_ids' is fixed by the alias 'facts-bot'; leave it out." in str(
        refused.value
    )


def masked(answer):
    return re.sub(rb"req_\w+", b"", answer.content)


def test_another_tenant_s_alias_is_not_there(serve):
    with serve(aliases=[OURS, FACTS], with_keys=True) as running, contextlib.ExitStack() as clients:
        acme, other = (
            clients.enter_context(
                httpx.Client(
                    base_url=f"{running.url}/v1",
                    headers={"authorization": f"Bearer {running.keys.create(tenant=name, scopes=['infer'])}"},
                )
            )
            for name in ("acme", "umbrella")
        )
        names = [[model["id"] for model in client.get("/models").json()["data"]] for client in (acme, other)]
        assert "ours" in names[0]
        assert "ours" not in names[1]
        assert "facts-bot" in names[1]
        for path, body in (
            ("/chat/completions", {"messages": QUESTION}),
            ("/completions", {"prompt": "a"}),
            ("/responses", {"input": "a"}),
        ):
            assert acme.post(path, json={"model": "ours", **body}).status_code == 200
            foreign = other.post(path, json={"model": "ours", **body})
            absent = other.post(path, json={"model": "none", **body})
            assert foreign.status_code == absent.status_code == 404
            assert masked(foreign).replace(b"'ours'", b"'none'") == masked(absent)
        assert masked(other.get("/models/ours")).replace(b"'ours'", b"'none'") == masked(
            other.get("/models/none")
        )


TOML = """
[engine]
kind = "echo"
[aliases.support]
template = "grounded"
vector_stores = ["handbook"]
sampling = { temperature = 0.2 }
when_empty = "refuse"
lock = ["template", "vector_stores"]
"""


def test_the_settings_bind_it(tmp_path):
    (tmp_path / "fewshot.toml").write_text(TOML)
    aliases = open_aliases(load_settings(tmp_path / "fewshot.toml", {}), Library.load())
    bound = aliases.of("anyone")["support"]
    assert (bound.model, bound.template, bound.vector_stores) == ("echo", "grounded", ("handbook",))
    assert (bound.sampling.temperature, bound.when_empty) == (0.2, "refuse")
    assert bound.lock == {"template", "vector_stores"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[aliases.'Two Words']", "aliases"),
        ("[aliases.a]\nlock = ['weights']", "aliases.a.lock"),
        ("[aliases.a]\ntemprature = 1", "aliases.a.temprature"),
        ("[aliases.a]\nsampling = { temperature = 3 }", "aliases.a.sampling.temperature"),
        ("[aliases.a]\nwhen_empty = 'shout'", "aliases.a.when_empty"),
    ],
)
def test_a_bad_table_is_refused_by_its_key(tmp_path, table, said):
    (tmp_path / "fewshot.toml").write_text(table)
    with pytest.raises(SettingsRefused, match=re.escape(said)):
        load_settings(tmp_path / "fewshot.toml", {})


def test_everything_that_cannot_work_is_named_at_once():
    aliases = Aliases(
        [
            Alias(name="echo", model="echo"),
            Alias(name="a", model="other"),
            Alias(name="b", model="echo", template="nowhere"),
            Alias(name="c", model="echo", template="plain", vector_stores=("facts",), variables={"x": "y"}),
            Alias(name="d", model="echo", template="sentiment", demos=2),
            Alias(name="e", model="echo", variables={"x": "y"}),
            FACTS,
        ]
    )
    said = aliases.problems(Library.load(), served="echo", has_demos=False)
    assert [line.split()[0] for line in said] == [
        *("aliases.echo", "aliases.a", "aliases.b", "aliases.c", "aliases.c"),
        *("aliases.d", "aliases.e"),
    ]


def test_a_server_with_an_alias_that_cannot_work_does_not_start(tmp_path):
    (tmp_path / "fewshot.toml").write_text("[aliases.a]\ntemplate = 'nowhere'\n")
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", "serve", "--echo", "--port", "0"],
        cwd=tmp_path,
        env={"FEWSHOT_DATA_DIR": str(tmp_path), "FEWSHOT_EMBEDDER": "hash", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 78
    assert "aliases.a" in done.stderr
    assert "nowhere" in done.stderr


def test_labels_are_asked_of_a_model_not_of_an_alias(serve):
    with serve(aliases=[FACTS]) as running:
        body = {"model": "facts-bot", "template": "question-type", "input": "How far is the moon?"}
        refused = httpx.post(f"{running.url}/v1/classify", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
        assert "facts-bot is an alias" in refused.json()["error"]["message"]
