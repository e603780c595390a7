"""Adapters over HTTP, against a decoder that says which one answers: names, steps, drains, refusals."""

import json
import threading
import time

import httpx
import openai
import pytest

from server.keys import SCOPES
from tests.server.adapters.making import write_lora, write_manifest, write_soft
from tests.server.leaving import seconds_until
from tests.server.live_experiments import live

ASK = [{"role": "user", "content": "Hello"}]


class Desk:
    """An operator with an HTTP client, who also asks."""

    def __init__(self, running, folder):
        self.http = httpx.Client(base_url=running.url, timeout=20)
        running.clients.enter_context(self.http)
        self.client = running.client()
        self.running = running
        self.folder = folder

    def post(self, path, **body):
        answer = self.http.post(f"/v1/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    def refused(self, path, method="POST", **body):
        answer = self.http.request(method, f"/v1/{path}", json=body if method == "POST" else None)
        assert 400 <= answer.status_code < 500, answer.text
        return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"]

    def add(self, name="polite", seed=0, write=write_lora):
        """The reference of a new version, through the inbox."""
        folder = self.folder / "inbox" / f"{name}-{seed}"
        if not folder.exists():
            write(folder, seed=seed)
        return self.post("adapters", name=name, inbox=folder.name)["id"]

    def say(self, model, **options):
        return self.client.chat.completions.create(model=model, messages=ASK, **options)

    def status(self, reference):
        return self.http.get(f"/v1/adapters/{reference}").json()["status"]


@pytest.fixture
def desk(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        yield Desk(running, tmp_path)


def test_the_life_of_a_version(desk):
    reference = desk.add()
    assert desk.status(reference) == "available"
    with pytest.raises(openai.NotFoundError, match="is not loaded; load it with"):
        desk.say(f"echo:{reference}")
    assert desk.post(f"adapters/{reference}/load")["status"] == "loaded"
    said = desk.say(f"echo:{reference}")
    assert said.choices[0].message.content == f"[{reference}] Hello"
    assert said.model == f"echo:{reference}"
    assert said.fewshot["model"]["adapter"] == reference
    assert desk.say("echo").choices[0].message.content == "Hello"
    assert desk.post(f"adapters/{reference}/unload")["status"] == "available"
    with pytest.raises(openai.NotFoundError):
        desk.say(f"echo:{reference}")
    assert desk.http.delete(f"/v1/adapters/{reference}").json()["deleted"] is True
    assert desk.refused(f"adapters/{reference}/load")[:2] == (404, "not_found")
    assert not list((desk.folder / "adapters").glob("*/*"))


def test_an_alias_moves_forward_and_back_and_every_step_is_kept(desk):
    first, second, third = (desk.add(seed=seed) for seed in range(3))
    assert desk.post(f"adapters/{first}/promote", alias="support")["before"] is None
    for reference, before in ((second, first), (third, second)):
        moved = desk.post(f"adapters/{reference}/promote", alias="support", reason="better")
        assert (moved["before"], moved["after"]) == (before, reference)
        assert desk.say("support").choices[0].message.content == f"[{reference}] Hello"
    assert desk.post("adapters/rollback", alias="support")["after"] == second
    assert desk.post("adapters/rollback", alias="support")["after"] == first
    assert desk.say("support").choices[0].message.content == f"[{first}] Hello"
    assert desk.refused("adapters/rollback", alias="support")[0] == 404
    assert desk.refused("adapters/rollback", alias="nobody")[0] == 404
    steps = desk.http.get("/v1/adapters/steps").json()["data"]
    assert [step["action"] for step in steps][:5] == ["rollback", "rollback", "promote", "promote", "promote"]
    assert steps[2]["reason"] == "better"


def test_models_lists_what_answers(desk):
    reference = desk.add(write=write_soft)
    assert [model.id for model in desk.client.models.list()][:1] == ["echo"]
    desk.post(f"adapters/{reference}/promote", alias="tone")
    models = {model.id: model for model in desk.client.models.list()}
    assert list(models)[:3] == ["echo", f"echo:{reference}", "tone"]
    assert models["tone"].fewshot["kind"] == "alias"
    assert models["tone"].fewshot["adapter"] == reference
    assert models["tone"].max_model_len == models["echo"].max_model_len - 5
    assert desk.client.models.retrieve(f"echo:{reference}").parent == "echo"


def test_a_soft_prompts_tokens_are_counted_and_take_room(desk):
    plain = desk.say("echo").usage.prompt_tokens
    reference = desk.add(write=write_soft)
    desk.post(f"adapters/{reference}/load")
    said = desk.say(f"echo:{reference}")
    assert said.usage.prompt_tokens == plain + 5
    context = desk.running.decoder.profile.context_tokens
    prompt = "a" * (context - 4)
    assert desk.client.completions.create(model="echo", prompt=prompt, max_tokens=4).usage
    with pytest.raises(openai.BadRequestError, match="context"):
        desk.client.completions.create(model=f"echo:{reference}", prompt=prompt, max_tokens=4)


def loads(desk, outcome):
    registry = desk.running.parts.metrics.registry
    return registry.get_sample_value("fewshot_adapter_loads_total", {"outcome": outcome})


def test_the_metrics_count_the_versions_that_answer(desk):
    def loaded():
        return desk.running.parts.metrics.registry.get_sample_value("fewshot_adapters_loaded")

    desk.running.parts.metrics.watch(
        waiting=lambda: 0,
        running=lambda: 0,
        ready=lambda: 1,
        adapters=lambda: desk.running.parts.adapters.loaded,
        journal_dropped=lambda: 0,
        unread=lambda: (0, 0.0),
    )
    one, other = desk.add(), desk.add(seed=1)
    assert loaded() == 0
    for reference in (one, other):
        desk.post(f"adapters/{reference}/load")
    desk.post(f"adapters/{one}/promote", alias="tone")
    assert loaded() == 2, "an alias is no adapter of its own"
    assert loads(desk, "loaded") == 2
    desk.post(f"adapters/{other}/unload")
    assert seconds_until(lambda: loaded() == 1, 20) < 20


def test_the_journal_and_the_headers_name_the_version_that_answered(desk):
    first, second = desk.add(seed=1), desk.add(seed=2)
    desk.post(f"adapters/{first}/promote", alias="support")
    raw = desk.client.chat.completions.with_raw_response.create(model="support", messages=ASK)
    desk.post(f"adapters/{second}/promote", alias="support")
    later = desk.say("support")
    desk.running.parts.journal.wait()
    rows = [desk.running.parts.journal.find(said.id) for said in (raw.parse(), later)]
    assert [row["plans.adapter"] for row in rows] == [first, second]
    assert raw.headers["x-fewshot-adapter"] == first
    digests = {one["id"]: one["sha256"] for one in desk.http.get("/v1/adapters").json()["data"]}
    assert [row["plans.adapter_sha256"] for row in rows] == [digests[first], digests[second]]
    assert raw.parse().system_fingerprint != later.system_fingerprint


def test_a_request_ends_on_the_version_it_began_with_and_the_engine_waits_for_it(serve, tmp_path):
    with serve(folder=tmp_path, interval_seconds=0.03) as running:
        desk = Desk(running, tmp_path)
        first, second = desk.add(seed=1), desk.add(seed=2)
        desk.post(f"adapters/{first}/promote", alias="support")
        stream = desk.say("support", stream=True)
        began = next(iter(stream))
        desk.post(f"adapters/{second}/promote", alias="support")
        assert desk.post(f"adapters/{first}/unload", drain_seconds=0)["status"] == "draining"
        with pytest.raises(openai.NotFoundError):
            desk.say(f"echo:{first}")
        text = "".join(chunk.choices[0].delta.content or "" for chunk in (began, *stream) if chunk.choices)
        assert text == f"[{first}] Hello"
        assert desk.say("support").choices[0].message.content == f"[{second}] Hello"
        until = time.monotonic() + 5
        while desk.status(first) == "draining" and time.monotonic() < until:
            time.sleep(0.02)
        assert desk.status(first) == "available"


def test_a_version_wanted_again_while_it_drains_stays(serve, tmp_path):
    with serve(folder=tmp_path, interval_seconds=0.03) as running:
        desk = Desk(running, tmp_path)
        reference = desk.add()
        desk.post(f"adapters/{reference}/load")
        stream = desk.say(f"echo:{reference}", stream=True)
        next(iter(stream))
        assert desk.post(f"adapters/{reference}/unload", drain_seconds=0)["status"] == "draining"
        assert desk.post(f"adapters/{reference}/load")["status"] == "loaded"
        for _ in stream:
            pass
        assert desk.say(f"echo:{reference}").choices[0].message.content.startswith(f"[{reference}]")


def test_who_asks_while_a_version_is_loaded_is_told_to_ask_again(serve, tmp_path):
    with serve(folder=tmp_path, first_seconds=1.0) as running:
        desk = Desk(running, tmp_path)
        reference = desk.add()
        loading = threading.Thread(target=desk.post, args=(f"adapters/{reference}/load",))
        loading.start()
        until = time.monotonic() + 10
        while desk.status(reference) != "loading":
            assert time.monotonic() < until
        body = {"model": f"echo:{reference}", "messages": ASK}
        answer = desk.http.post("/v1/chat/completions", json=body)
        loading.join(10)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), answer.text
        assert desk.say(f"echo:{reference}").choices[0].message.content == f"[{reference}] Hello"


def test_a_version_that_stopped_answering_by_itself_is_loaded_again(desk):
    reference = desk.add()
    desk.post(f"adapters/{reference}/promote", alias="live")
    desk.running.decoder.adapters.dead.add(reference)
    until = time.monotonic() + 10
    while desk.running.decoder.adapters.loads < 2 or desk.status(reference) != "loaded":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert desk.say("live").choices[0].message.content == f"[{reference}] Hello"


def test_what_stands_in_the_way_is_named(desk):
    first, second = desk.add(seed=1), desk.add(seed=2)
    desk.post(f"adapters/{first}/promote", alias="support")
    assert desk.refused(f"adapters/{first}/unload")[:2] == (409, "adapter_in_use")
    assert desk.refused(f"adapters/{first}", "DELETE")[:2] == (409, "adapter_in_use")
    desk.post(f"adapters/{second}/promote", alias="support")
    desk.post(f"adapters/{first}/unload")
    status, _, says = desk.refused(f"adapters/{first}", "DELETE")
    assert (status, "rolled back to" in says) == (409, True)
    assert desk.refused(f"adapters/{second}/promote", alias="echo")[0] == 400
    assert desk.refused(f"adapters/{second}/promote", alias="../x")[0] == 400
    assert desk.refused(f"adapters/{second}/promote", alias="a", surprise=1)[0] == 400
    assert desk.refused("adapters/../x/load")[0] in (404, 405)
    assert desk.refused("adapters/what/load")[0] == 400
    with pytest.raises(openai.NotFoundError, match="support"):
        desk.say("suport")


def test_a_version_whose_files_were_changed_is_not_loaded_and_says_so(desk):
    reference = desk.add()
    name, version = reference.split("@")
    with (desk.folder / "adapters" / name / version / "adapter_config.json").open("a") as file:
        file.write(" ")
    status, code, says = desk.refused(f"adapters/{reference}/load")
    assert loads(desk, "refused") == 1
    assert (status, code) == (400, "invalid_value")
    assert "not the file that the manifest was written for" in says
    shown = desk.http.get(f"/v1/adapters/{reference}").json()
    assert (shown["status"], "adapter_config.json" in shown["error"]) == ("failed", True)
    assert desk.say("echo").choices[0].message.content == "Hello"


def test_uploads_come_as_parts_and_training_writes_in_place(desk, tmp_path):
    folder = write_manifest(write_lora(tmp_path / "made"), "mine", "lora")
    parts = [("file", (file.name, file.read_bytes())) for file in sorted(folder.iterdir())]
    added = desk.http.post("/v1/adapters", data={"name": "mine"}, files=parts)
    assert added.status_code == 200, added.text
    version = added.json()["version"]
    assert desk.post("adapters", name="mine", version=version)["id"] == f"mine@{version}"
    assert len(desk.http.get("/v1/adapters").json()["data"]) == 1
    evil = desk.http.post("/v1/adapters", data={"name": "x"}, files=[("file", ("../../x.safetensors", b"x"))])
    assert evil.status_code == 400
    assert desk.http.post("/v1/adapters", data={"name": "x"}, files=[("f", ("a", b"x"))]).status_code == 400
    assert desk.http.post("/v1/adapters", json={"name": "mine"}).status_code == 400
    for inbox in ("../adapters", "/etc", "..", "a/b"):
        assert desk.http.post("/v1/adapters", json={"name": "x", "inbox": inbox}).status_code == 400
    assert desk.http.post("/v1/adapters", json={"name": "mine", "version": "0" * 12}).status_code == 404


def test_tools_written_for_vllm_load_and_unload(desk):
    folder = write_lora(desk.folder / "inbox" / "step_17")
    said = desk.post("load_lora_adapter", lora_name="step_17", lora_path=str(folder))
    assert said == "Success: LoRA adapter 'step_17' added successfully."
    assert desk.say("step_17").choices[0].message.content.endswith("] Hello")
    again = desk.http.post("/v1/load_lora_adapter", json={"lora_name": "step_17", "lora_path": str(folder)})
    assert (again.status_code, "has already been loaded" in again.text) == (400, True)
    assert desk.refused("load_lora_adapter", lora_name="a", lora_path=str(folder), load_inplace=True)[1] == (
        "unsupported_parameter"
    )
    for path in ("/etc", "org/name", "../inbox/step_17", f"{folder}/../step_17", str(desk.folder)):
        assert desk.refused("load_lora_adapter", lora_name="a", lora_path=path)[0] == 400
    said = desk.post("unload_lora_adapter", lora_name="step_17", lora_int_id=3)
    assert said == "Success: LoRA adapter 'step_17' removed successfully."
    assert desk.refused("unload_lora_adapter", lora_name="step_17")[0] == 404
    with pytest.raises(openai.NotFoundError):
        desk.say("step_17")


def test_only_operators_may(serve, tmp_path):
    with serve(folder=tmp_path, with_keys=True) as running:
        key = running.keys.create(tenant="t", scopes=set(SCOPES) - {"admin"})
        headers = {"authorization": f"Bearer {key}"}
        assert httpx.get(f"{running.url}/v1/adapters", headers=headers).status_code == 403


def test_a_restart_serves_the_same_names(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        desk = Desk(running, tmp_path)
        first, second = desk.add(seed=1), desk.add(seed=2)
        desk.post(f"adapters/{first}/promote", alias="support")
        desk.post(f"adapters/{second}/load")
    with serve(folder=tmp_path) as running:
        desk = Desk(running, tmp_path)
        until = time.monotonic() + 10
        while desk.http.get("/ready").status_code != 200 and time.monotonic() < until:
            time.sleep(0.02)
        assert desk.say("support").choices[0].message.content == f"[{first}] Hello"
        assert desk.say(f"echo:{second}").choices[0].message.content == f"[{second}] Hello"


def test_mixed_traffic_is_right_while_versions_come_and_go(serve, tmp_path):
    """A4 and A7 at the size of an echo: no request fails, none gets another's answer."""
    with serve(folder=tmp_path) as running:
        desk = Desk(running, tmp_path)
        stay = [desk.add("stay", seed) for seed in range(3)]
        for reference in stay:
            desk.post(f"adapters/{reference}/load")
        turning = [desk.add("turn", seed) for seed in range(2)]
        desk.post(f"adapters/{turning[0]}/promote", alias="live")
        wrong, asked, stop = [], [0], threading.Event()

        def ask(model, allowed):
            while not stop.is_set():
                with httpx.Client(base_url=running.url) as http:
                    body = {"model": model, "messages": ASK}
                    answer = http.post("/v1/chat/completions", json=body)
                asked[0] += 1
                said = answer.json()
                if answer.status_code != 200 or said["choices"][0]["message"]["content"] not in allowed:
                    wrong.append((model, answer.text))

        names = {"echo": {"Hello"}, "live": {f"[{one}] Hello" for one in turning}}
        names |= {f"echo:{one}": {f"[{one}] Hello"} for one in stay}
        threads = [threading.Thread(target=ask, args=item) for item in names.items()]
        for thread in threads:
            thread.start()
        for round_ in range(50):
            new, old = turning[(round_ + 1) % 2], turning[round_ % 2]
            desk.post(f"adapters/{new}/promote", alias="live")
            said = desk.say("live").choices[0].message.content
            assert said == f"[{new}] Hello"  # never stale after the step was answered
            desk.post(f"adapters/{old}/unload")
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert asked[0] > 50
        assert running.decoder.adapters.loads == 54
        log = [json.loads(json.dumps(step)) for step in desk.http.get("/v1/adapters/steps").json()["data"]]
        assert len(log) == 100


def test_an_arm_of_an_experiment_may_be_an_adapter(serve, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    with serve(folder=tmp_path) as running:
        desk = Desk(running, tmp_path)
        reference = desk.add()
        desk.post(f"adapters/{reference}/load")
    arm = 'template = "few-shot@1"'
    (folder / "shots.toml").write_text(live((arm, f'{arm}\nadapter = "{reference}"')))
    with serve(folder=tmp_path, experiments=folder, reply="x") as running:
        desk = Desk(running, tmp_path)
        seen = {}
        for user in ("ann", "bo", "cy", "dee", "eve", "flo"):
            answer = desk.say("echo", user=user)
            seen[answer.fewshot["arm"]] = (
                answer.fewshot["model"]["adapter"],
                answer.choices[0].message.content,
            )
    assert seen == {"plain": (None, "x"), "shown": (reference, f"[{reference}] x")}


def test_a_replay_runs_on_the_version_that_answered(desk):
    first, second = desk.add(seed=1), desk.add(seed=2)
    desk.post(f"adapters/{first}/promote", alias="support")
    answer = desk.say("support")
    desk.post(f"adapters/{second}/promote", alias="support")
    replayed = desk.post(f"replay/{answer.id}")
    assert replayed["first_difference"] is None
    assert replayed["replayed"]["choices"][0]["text"] == f"[{first}] Hello"
    desk.post(f"adapters/{first}/unload")
    assert [reason["code"] for reason in desk.post(f"replay/{answer.id}")["reasons"]][:1] == ["adapter"]


def test_a_second_server_follows_the_first(serve, tmp_path):
    with serve(folder=tmp_path) as one, serve(folder=tmp_path) as other:
        desk, beside = Desk(one, tmp_path), Desk(other, tmp_path)
        first, second = desk.add(seed=1), desk.add(seed=2)

        def until(true):
            end = time.monotonic() + 10
            while not true():
                assert time.monotonic() < end
                time.sleep(0.02)

        def means(reference):
            answer = beside.http.post("/v1/chat/completions", json={"model": "support", "messages": ASK})
            return f"[{reference}] Hello" in answer.text

        desk.post(f"adapters/{first}/promote", alias="support")
        until(lambda: means(first))
        desk.post(f"adapters/{second}/promote", alias="support")
        until(lambda: means(second))
        desk.post(f"adapters/{first}/unload")
        until(lambda: beside.status(first) == "available")
        beside.post("adapters/rollback", alias="support")
        until(lambda: desk.say("support").choices[0].message.content == f"[{first}] Hello")


def test_ids_and_fields_that_would_reach_the_engines_inside_are_refused(desk):
    reference = desk.add(write=write_soft)
    desk.post(f"adapters/{reference}/load")
    vocabulary = desk.running.decoder.profile.vocabulary
    for prompt in ([vocabulary], [-1], [2**40], [[1, vocabulary + 5]]):
        answer = desk.http.post("/v1/completions", json={"model": "echo", "prompt": prompt})
        assert answer.status_code == 400, answer.text
    for field in ({"prompt_embeds": "x"}, {"cache_salt": "x"}):
        answer = desk.http.post("/v1/completions", json={"model": "echo", "prompt": "a", **field})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert desk.say(f"echo:{reference}").choices[0].message.content == f"[{reference}] Hello"
