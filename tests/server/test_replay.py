"""Replay over real sockets: what was written down of an answer, and the same tokens decoded again."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import httpx
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.commands.stores import stores
from indexer.database import open_database
from server.echo_decoder import EchoDecoder
from server.forgetting import erase_texts
from server.records import Limits
from server.replay import Record, Said, first_difference
from server.schema import plans, replies

ASK = [{"role": "user", "content": "How long is green tea steeped?"}]
FACTS = {"vector_store_ids": ["facts"]}


class Other(EchoDecoder):
    """An echo with other weights, or of another version."""

    def __init__(self, *, profile=None, **echo):
        super().__init__(**echo)
        self._profile = replace(self._profile, **(profile or {}))


@contextmanager
def served_by(serve, **echo):
    decoder = Other(**echo)

    async def open_decoder():
        return decoder

    with serve(open_decoder=open_decoder) as running:
        while not running.parts.engine.up.is_set():
            pass
        yield running


def shown(running, turn, **headers):
    return httpx.get(f"{running.url}/v1/replay/{turn}", headers=headers)


def again(running, turn, **headers):
    return httpx.post(f"{running.url}/v1/replay/{turn}", headers=headers, timeout=30)


def codes(replay):
    return [reason["code"] for reason in replay["reasons"]]


def grounded(running, **body):
    body = {"model": "echo", "messages": ASK, "fewshot": FACTS, "seed": 7, **body}
    return httpx.post(f"{running.url}/v1/chat/completions", json=body).json()


def test_every_kind_of_answer_is_replayed_to_the_letter(serve):
    with serve(reply="Two minutes [1] or [9] ten [2, 99].") as running:
        client = running.client()
        kinds = {
            "chat": client.chat.completions.create(model="echo", messages=ASK, n=3).id,
            "grounded": grounded(running)["id"],
            "links": grounded(running, fewshot={**FACTS, "citations": "links"})["id"],
            "no markers": grounded(running, fewshot={**FACTS, "citations": "none"})["id"],
            "prompts": client.completions.create(model="echo", prompt=["a", "long b", "c"], n=2).id,
            "tokens": client.completions.create(model="echo", prompt=[65, 66], max_tokens=3).id,
            "echo": client.completions.create(
                model="echo", prompt="abc", max_tokens=0, echo=True, logprobs=1
            ).id,
            "stop": client.completions.create(model="echo", prompt="abc", stop=["or"], max_tokens=90).id,
            "response": client.responses.create(input="Hello").id,
        }
        for kind, turn in kinds.items():
            done = again(running, turn)
            assert done.status_code == 200, (kind, done.text)
            replay = done.json()
            assert (replay["identical"], replay["exact"]) == (True, True), (kind, replay)
            assert replay["first_difference"] is None
            if kind != "links":  # whose list of sources is not made again
                assert replay["replayed"]["choices"] == replay["original"]["choices"]
        prompts = again(running, kinds["prompts"]).json()["original"]["choices"]
        assert len(prompts) == 6


def test_a_record_shows_all_that_made_an_answer(serve):
    with serve(reply="Two minutes [1].") as running:
        answer = grounded(running, temperature=0.5, metadata={"case": "tea"})
        record = shown(running, answer["id"]).json()
    fewshot = answer["fewshot"]
    assert record["object"] == "replay.record"
    for same in ("template", "generations", "prompt_sha256", "sampling", "grounding", "dropped"):
        assert record["fewshot"][same] == fewshot[same], same
    used = [source for source in fewshot["sources"] if source["used"]]
    assert [(source["n"], source["chunk_id"]) for source in record["fewshot"]["sources"]] == [
        (source["n"], source["chunk_id"]) for source in sorted(used, key=lambda source: source["n"])
    ]
    assert {source["state"] for source in record["fewshot"]["sources"]} == {"there"}
    assert record["fewshot"]["sources"][0]["cited"] is True
    assert record["request"]["metadata"] == {"case": "tea"}
    assert record["request"]["messages"] == ASK
    assert "eighty degrees" in record["fewshot"]["messages"][-1]["content"]
    assert record["engine"]["version"] == "1"
    assert record["engine"]["fingerprint"] == answer["system_fingerprint"]
    assert "".join(map(chr, record["output_token_ids"][0])) == "Two minutes [1]."
    assert record["output_texts"] == ["Two minutes [1]."]
    assert all(record["available"].values())
    assert record["fewshot"]["sampling"]["seed"] == 7


def test_examples_of_the_template_itself_need_no_pool(serve, tmp_path):
    with serve(reply="x") as running:
        turn = grounded(running)["id"]
        running.parts.journal.wait()
        with open_database(tmp_path / "journal.db").begin() as connection:
            shown_then = connection.execute(sa.select(plans.c.demos)).scalar_one()
            connection.execute(sa.update(plans).values(pool_sha256=None))
        own = shown(running, turn).json()["available"]["demos"]
        with open_database(tmp_path / "journal.db").begin() as connection:
            connection.execute(sa.update(plans).values(pool_sha256="another"))
        other = again(running, turn).json()
    assert "template-1" in shown_then
    assert own is True
    assert codes(other) == ["demos"]


def test_what_differs_is_named_with_its_place_and_its_reasons(serve):
    with served_by(serve, reply="Two minutes.") as running:
        turn = grounded(running)["id"]
    other = {"sha256": "other", "engine_version": "2"}
    with served_by(serve, reply="Two hours, or so.", profile=other) as running:
        replay = again(running, turn).json()
        record = shown(running, turn).json()
    assert (replay["identical"], replay["exact"]) == (False, False)
    apart = replay["first_difference"]
    assert (apart["choice"], apart["token_index"], apart["text_index"]) == (0, 4, 4)
    assert (apart["original"]["text"], apart["replayed"]["text"]) == ("m", "h")
    assert apart["original"]["logprob"] == apart["replayed"]["logprob"] < 0
    reasons = {reason["code"]: reason for reason in replay["reasons"]}
    assert reasons["weights"]["now"] == "other"
    assert (reasons["engine_version"]["recorded"], reasons["engine_version"]["now"]) == ("1", "2")
    assert record["available"]["model"] is False


def test_the_same_answer_of_an_engine_that_rounds_by_batch_is_identical_but_not_exact(serve):
    with served_by(serve, reply="x", profile={"flags": {"batch_invariant": False}}) as running:
        turn = grounded(running)["id"]
        replay = again(running, turn).json()
    assert (replay["identical"], replay["exact"], codes(replay)) == (True, False, ["batch"])


def test_tokens_that_the_model_of_today_does_not_know_are_not_decoded(serve):
    with serve(reply="x") as running:
        turn = running.client().completions.create(model="echo", prompt="é" * 9).id
    with served_by(serve, reply="x", profile={"vocabulary": 128, "sha256": "small"}) as running:
        replay = again(running, turn).json()
    assert (replay["replayed"], replay["identical"]) == (None, None)
    assert codes(replay) == ["does_not_fit"]


def test_deleted_sources_are_told_and_the_prompt_is_replayed_from_its_tokens(serve, data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    with serve(folder=folder, reply="Two minutes [1].") as running:
        turn = grounded(running)["id"]
        gone = CliRunner().invoke(stores, ["delete", "facts", "--document", "tea", "--data", str(folder)])
        assert gone.exit_code == 0, gone.output
        removed, record = again(running, turn).json(), shown(running, turn).json()
        assert CliRunner().invoke(stores, ["purge", "--data", str(folder)]).exit_code == 0
        purged = again(running, turn).json()
        whole = CliRunner().invoke(stores, ["delete", "facts", "--yes", "--purge", "--data", str(folder)])
        assert whole.exit_code == 0, whole.output
        deleted = again(running, turn).json()
    assert (removed["identical"], codes(removed)) == (True, ["sources_removed"])
    assert record["available"]["generations"] is False
    assert "removed" in {source["state"] for source in record["fewshot"]["sources"]}
    assert (purged["identical"], codes(purged)) == (True, ["sources_gone"])
    assert codes(deleted) == ["sources_gone", "stores_deleted"]
    assert len(deleted["reasons"][1]["recorded"]) == 1


def test_an_erased_prompt_is_not_replayed_and_says_so(serve, tmp_path):
    with serve(reply="Two minutes [1].") as running:
        answer = grounded(running)
        running.parts.journal.wait()
        erased = [source["chunk_id"] for source in answer["fewshot"]["sources"] if source["used"]]
        assert erase_texts(open_database(tmp_path / "journal.db"), erased) == 1
        replay, record = again(running, answer["id"]).json(), shown(running, answer["id"]).json()
    assert (replay["replayed"], replay["original"], replay["identical"]) == (None, None, None)
    assert codes(replay)[0] == "prompt_erased"
    assert record["erased_at"] > 0
    assert (record["prompt_token_ids"], record["request"]["messages"]) == (None, None)
    assert (record["available"]["prompt"], record["available"]["answer"]) == (False, False)
    assert record["fewshot"]["prompt_sha256"] == answer["fewshot"]["prompt_sha256"]


def test_what_was_never_kept_says_so(serve):
    with serve(reply="x") as running:
        turn = running.client().responses.create(input="Hello", store=False).id
        replay = again(running, turn).json()
    assert (replay["identical"], codes(replay)) == (None, ["prompt_not_kept"])


def test_a_refusal_had_no_model_call_to_replay(serve):
    with serve(reply="x") as running:
        picky = {"type": "file_search", **FACTS, "ranking_options": {"score_threshold": 1}}
        answer = grounded(running, fewshot={"when_empty": "refuse"}, tools=[picky])
        assert answer["fewshot"]["grounding"] == "refused"
        replay = again(running, answer["id"]).json()
    assert (replay["identical"], replay["replayed"]) == (None, None)
    assert codes(replay) == ["no_model_call"]
    assert replay["original"]["choices"][0]["text"] == answer["choices"][0]["message"]["content"]


def test_a_classification_is_shown_and_not_decoded(serve):
    with serve(reply="x") as running:
        body = {"model": "echo", "template": "question-type@1", "input": "hello"}
        answer = httpx.post(f"{running.url}/v1/classify", json=body)
        turn = answer.json()["id"]
        assert shown(running, turn).json()["engine"]["name"] == "echo"
        assert codes(again(running, turn).json()) == ["no_generation"]


def test_where_functions_were_offered_the_tokens_decide(serve):
    called = '<tool_call>{"name": "steep", "arguments": {"minutes": 2}}</tool_call>'
    tool = {"type": "function", "function": {"name": "steep", "parameters": {"type": "object"}}}
    with serve() as running:
        body = {"model": "echo", "messages": [{"role": "user", "content": called}], "tools": [tool]}
        answer = httpx.post(f"{running.url}/v1/chat/completions", json=body).json()
        replay, record = again(running, answer["id"]).json(), shown(running, answer["id"]).json()
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert (replay["identical"], replay["exact"]) == (True, True)
    assert replay["replayed"]["choices"][0]["text"] == called
    assert record["output_calls"][0][0]["name"] == "steep"


def test_an_answer_that_was_cut_off_is_compared_as_far_as_it_came(serve):
    with serve(reply="abcdefghijklmnop" * 9, interval_seconds=0.02) as running:
        body = {"model": "echo", "messages": ASK, "stream": True, "max_tokens": 140}
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body) as response:
            turn = response.headers["x-fewshot-id"]
            next(response.iter_lines())
        while "replies.outcome" not in running.journalled(turn):
            pass
        replay = again(running, turn).json()
    assert replay["original"]["outcome"] == "cancelled"
    assert (replay["identical"], replay["exact"]) == (True, False)
    assert "unfinished" in codes(replay)
    assert len(replay["replayed"]["choices"][0]["token_ids"]) < 140


def test_a_replay_is_no_exposure_and_counts_as_one_generation(serve, tmp_path):
    with serve(reply="x") as running:
        turn = grounded(running)["id"]
        for _ in range(3):
            again(running, turn)
        running.parts.journal.wait()
        with open_database(tmp_path / "journal.db").connect() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(plans)).scalar_one() == 1
        assert running.parts.admission.running == 0


def test_replay_takes_no_options_and_knows_no_foreign_answers(serve):
    with serve(with_keys=True, reply="x") as running:
        scopes = ["infer", "audit"]
        mine, other = (running.keys.create(tenant=tenant, scopes=scopes) for tenant in ("a", "b"))
        poor = running.keys.create(tenant="a", scopes=["infer"])
        turn = running.client(api_key=mine).chat.completions.create(model="echo", messages=ASK).id
        bearer = {key: {"authorization": f"Bearer {key}"} for key in (mine, other, poor)}
        for call in (shown, again):
            foreign, absent = call(running, turn, **bearer[other]), call(running, "resp_no", **bearer[mine])
            assert (foreign.status_code, foreign.json()) == (404, absent.json())
            assert call(running, turn, **bearer[poor]).status_code == 403
            assert call(running, turn, **bearer[mine]).status_code == 200
        options = httpx.post(f"{running.url}/v1/replay/{turn}", json={"seed": 1}, headers=bearer[mine])
    assert options.status_code == 400


def test_a_turn_of_an_older_release_is_replayed_as_far_as_it_was_written_down(serve, tmp_path):
    with serve(reply="xyz") as running:
        turn = grounded(running)["id"]
        pair = running.client().chat.completions.create(model="echo", messages=ASK, n=2).id
        running.parts.journal.wait()
        with open_database(tmp_path / "journal.db").begin() as connection:
            connection.execute(sa.update(plans).values(engine=None, options=None, prompt_lengths=None))
            connection.execute(sa.update(replies).values(token_lengths=None, finishes=None))
        one, two = again(running, turn).json(), again(running, pair).json()
    assert (one["identical"], one["exact"], codes(one)) == (True, False, ["engine_unknown"])
    assert (two["identical"], codes(two)) == (None, ["engine_unknown", "answer_not_kept"])
    assert len(two["replayed"]["choices"]) == 2


TOKENS = st.lists(st.integers(0, 3), max_size=6).map(tuple)


def recorded(choices, **fields):
    known = dict.fromkeys(Record.__dataclass_fields__)
    known |= {"choices": choices, "outcome": "stop", "options": {}, "limits": Limits(max_tokens=9)}
    return Record(**{**known, **fields})


@settings(deadline=None)
@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=3), st.sampled_from(["stop", "cancelled"]))
def test_the_first_difference_is_where_the_first_unequal_choice_parts(pairs, outcome):
    def said(tokens):
        return Said(tokens, "".join(map(str, tokens)), "stop")

    record = recorded([said(one) for one, _ in pairs], outcome=outcome)
    found = first_difference(record, [said(two) for _, two in pairs])
    cut = outcome == "cancelled"
    unequal = [
        (index, one, two[: len(one)] if cut else two)
        for index, (one, two) in enumerate(pairs)
        if one != (two[: len(one)] if cut else two)
    ]
    if not unequal:
        assert found is None
        return
    index, one, two = unequal[0]
    at = found.token_index
    assert found.choice == index
    assert one[:at] == two[:at]
    assert (found.original, found.replayed) == (
        one[at] if at < len(one) else None,
        two[at] if at < len(two) else None,
    )
    assert found.original != found.replayed


def test_a_text_that_reads_otherwise_though_its_tokens_are_the_same_is_a_difference():
    then, now = [Said((1, 2), "A [1].", "stop")], [Said((1, 2), "A.", "stop")]
    apart = first_difference(recorded(then), now)
    assert (apart.token_index, apart.text_index) == (None, 1)
    listed = [Said((1, 2), "A.\n\n- \\[1\\] [a](b)", "stop")]
    assert first_difference(recorded(listed, options={"citations": "links"}), now) is None
    assert first_difference(recorded(listed), now).text_index == 2


def test_an_answer_without_a_plan_has_no_record(serve):
    with serve(reply="x") as running:
        refused = grounded(running, fewshot={"vector_store_ids": ["nope"]})
        assert refused["error"]["code"] == "not_found"
        assert shown(running, "chatcmpl-nope").status_code == 404


def test_the_record_is_json_that_says_what_openapi_promises(serve):
    with serve(reply="x") as running:
        turn = grounded(running)["id"]
        document = httpx.get(f"{running.url}/openapi.json").json()
        for call, method in ((shown, "get"), (again, "post")):
            schema = document["paths"]["/v1/replay/{response_id}"][method]["responses"]["200"]
            wanted = schema["content"]["application/json"]["schema"]["required"]
            assert set(wanted) == set(json.loads(call(running, turn).content))
