"""Experiments on live traffic: who meets which arm, what is written down, who decides what."""

import json
import re
import time
from pathlib import Path

import pytest

from indexer.database import open_database
from prompts.demos import Pool
from prompts.errors import ExperimentChanged, ExperimentInvalid
from prompts.experiment_files import parse_experiment
from prompts.experiments import assign
from prompts.listing import parse_lines
from prompts.templates import Library
from server.demonstrations import PoolDemos
from server.enrolment import Enrolment
from server.errors import ExperimentState, NotFound
from server.experiment_log import ExperimentLog
from server.experiments import Experiments
from server.following import Follower
from tests.server.live_experiments import live
from tests.server.samples import ask
from tests.server.traffic import logged

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "experiments"
    made.mkdir()
    (made / "shots.toml").write_text(live())
    return made


@pytest.fixture
def replica(tmp_path, folder):
    """Open another server's view of the same journal and folder."""

    def follower(where=folder):
        book = ExperimentLog(open_database(tmp_path / "journal.db"))
        engine = book._engine
        enrolment = lambda name: Enrolment(engine, name, lambda tenant, unit: unit)  # noqa: E731
        made = Follower(book, Experiments(), Library.load(), PoolDemos(None), where, enrolment=enrolment)
        return made, book

    return follower


def meets(follower, **fields):
    return follower._experiments.meet(ask(**fields))


def asked(client, user, **fields):
    return client.chat.completions.with_raw_response.create(model="echo", messages=HELLO, user=user, **fields)


def test_a_unit_meets_the_arm_that_the_file_says_and_everything_names_it(serve, folder):
    experiment = parse_experiment(live().encode(), "shots.toml")
    with serve(reply="x", experiments=folder) as running:
        client = running.client()
        for user in ("ann", "bo", "cy", "dee", "eve"):
            arm = assign(experiment, user).arm
            raw = asked(client, user)
            answer = raw.parse()
            told = answer.fewshot
            assert raw.headers["x-fewshot-arm"] == f"shots/{arm}"
            assert raw.headers["x-fewshot-phase"] == "1"
            assert (told["experiment"], told["arm"], told["phase"]) == ("shots", arm, 1)
            assert (told["assigned"], told["served"], told["unit_kind"]) == (True, f"shots/{arm}", "user")
            assert told["template"]["name"] == {"plain": "plain", "shown": "few-shot"}[arm]
            row = running.journalled(answer.id)
            assert (row["exposures.experiment"], row["exposures.arm"]) == ("shots", arm)
            assert (row["exposures.phase"], row["exposures.propensity"]) == (1, 0.5)
            assert row["plans.served"] == f"shots/{arm}"
        told = running.parts.metrics.exposition().decode()
    counts = dict(re.findall(r'fewshot_exposures_total{arm="(\w+)",experiment="shots"} (\d+)', told))
    assert sum(map(int, counts.values())) == 5
    assert 'first_token_seconds_count{arm="shots/' in told


@pytest.mark.parametrize(
    ("fields", "arm"),
    [
        ({"user": "ann"}, None),
        ({"user": "ann", "fewshot": {"experiment": "off"}}, "plain"),
        ({}, "plain"),  # no unit
        ({"user": "ann", "temperature": 0.5}, "plain"),  # the arms differ in it
        ({"user": "ann", "top_p": 0.5}, None),
        ({"user": "ann", "fewshot": {"demos": 1}}, "none"),  # plain has no place for them
        ({"user": "ann", "fewshot": {"template": "plain"}}, "none"),
    ],
)
def test_only_requests_that_can_meet_every_arm_count(replica, fields, arm):
    follower, _ = replica()
    follower.start()
    met = meets(follower, **fields)
    assert met.assigned == (arm is None)
    if arm is not None:
        assert (met.recipe.arm if met.recipe else "none") == arm
        assert met.phase is None


def test_an_exposure_is_kept_when_the_answer_is_refused(serve, folder, tmp_path):
    with serve(reply="x", experiments=folder) as running:
        client = running.client()
        long = [{"role": "user", "content": "x" * 70_000}]
        for user in ("ann", "bo"):
            with pytest.raises(Exception, match="tokens"):
                client.chat.completions.create(model="echo", messages=long, user=user)
        running.parts.journal.wait()
    with open_database(tmp_path / "journal.db").connect() as connection:
        rows = connection.exec_driver_sql("select experiment, arm from exposures").all()
    assert len(rows) == 2
    assert all(row.experiment == "shots" and row.arm for row in rows)


def test_two_replicas_agree_and_the_ramp_moves_nobody(replica, folder):
    first, _ = replica()
    second, _ = replica()
    (folder / "shots.toml").write_text(live(("ramp = 1.0", "ramp = 0.3")))
    first.start()
    second.start()
    users = [f"user-{number}" for number in range(400)]
    before = {user: meets(first, user=user) for user in users}
    assert before == {user: meets(second, user=user) for user in users}
    assert 60 < sum(met.assigned for met in before.values()) < 180
    (folder / "shots.toml").write_text(live(("ramp = 1.0", "ramp = 0.7")))
    first.refresh()
    second.refresh()
    after = {user: meets(second, user=user) for user in users}
    assert after == {user: meets(first, user=user) for user in users}
    assert all(after[user] == met for user, met in before.items() if met.assigned)
    assert sum(met.assigned for met in after.values()) > 220


def test_a_replica_with_an_older_file_follows_the_others(replica, folder, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "shots.toml").write_text(live(("ramp = 1.0", "ramp = 0.3")))
    late, book = replica(old)
    late.start()
    quick, _ = replica()
    quick.start()
    restarted, _ = replica(old)
    restarted.start()
    assert book.read().running.experiment.ramp == 1.0
    assert restarted._experiments.in_force.running.experiment.ramp == 1.0


def test_new_weights_open_a_phase_and_what_would_spoil_the_experiment_is_refused(replica, folder):
    follower, book = replica()
    follower.start()
    heavier = (("[arms.plain]\nweight = 0.5", "[arms.plain]\nweight = 0.4"), ("weight = 0.5", "weight = 0.6"))
    (folder / "shots.toml").write_text(live(*heavier))
    follower.refresh()
    assert [phase.number for phase in book.read().get("shots").phases] == [1, 2]
    assert meets(follower, user="ann").phase == 2
    (folder / "shots.toml").write_text(live(("3f9a", "0000")))
    follower.refresh()  # logged; what was in force stays
    assert meets(follower, user="ann").phase == 2
    with pytest.raises(ExperimentChanged, match="salt cannot change"):
        replica()[0].start()


def test_one_experiment_runs_at_a_time_and_drafts_wait(replica, folder):
    (folder / "later.toml").write_text(live(('"shots"', '"later"'), ("ramp = 1.0", "ramp = 0.0")))
    follower, book = replica()
    follower.start()
    assert list(book.read().experiments) == ["shots"]
    (folder / "later.toml").write_text(live(('"shots"', '"later"')))
    with pytest.raises(ExperimentInvalid, match="shots still runs"):
        replica()[0].start()
    follower.refresh()
    assert book.read().running.experiment.name == "shots"
    book.stop("shots", by="kim", reason="next")
    follower.refresh()  # tries again what was in the way of nothing but the other
    assert book.read().running.experiment.name == "later"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (('template = "few-shot@1"', 'template = "few-shot@9"'), "few-shot@9"),
        (('template = "few-shot@1"', 'template = "few-shot@1"\nadapter = "a@1"'), "no adapter a@1"),
        (('template = "few-shot@1"', 'template = "few-shot@1"\npool = "p@1"'), "no p@1"),
    ],
)
def test_an_arm_that_cannot_be_served_is_refused_at_the_start(replica, folder, edit, says):
    (folder / "shots.toml").write_text(live(edit))
    with pytest.raises(ExperimentInvalid, match=says):
        replica()[0].start()


def test_promotion_switches_every_replica_in_one_step_and_rollback_switches_back(replica):
    first, book = replica()
    second, _ = replica()
    first.start()
    second.start()
    with pytest.raises(NotFound, match="no arm"):
        promoted(book, "nobody")
    made = promoted(book, "shown")
    assert (made.before, made.after) == ("shots/plain", "shots/shown")
    with pytest.raises(ExperimentState, match="promoted"):
        promoted(book, "shown")
    second.refresh()
    for fields in ({"user": "ann"}, {"user": "bo"}, {}):
        met = meets(second, **fields)
        assert (met.arm, met.assigned) == ("shots/shown", False)
    back = book.rollback(by="kim", reason="worse after all")
    assert (back.before, back.after) == ("shots/shown", "shots/plain")
    first.refresh()
    assert meets(first, user="ann").arm == "shots/plain"
    with pytest.raises(ExperimentState, match="nothing to roll back"):
        book.rollback(by="kim", reason="again")


def promoted(book, arm):
    return book.promote(
        "shots", arm, verdict="winner", by="kim", reason="", forced=False, report_sha256="0" * 64
    )


def test_a_stop_serves_control_and_enrols_nobody(replica):
    follower, book = replica()
    follower.start()
    book.stop("shots", by="kim", reason="a fault")
    follower.refresh()
    met = meets(follower, user="ann")
    assert (met.arm, met.assigned) == ("shots/plain", False)
    assert book.read().get("shots").status == "stopped"


def test_harm_stops_once_whoever_finds_it(replica):
    follower, book = replica()
    follower.start()
    assert book.record_verdict("shots", "harmful", "slow", "0" * 64)
    assert not book.record_verdict("shots", "winner", "fast", "1" * 64)
    known = book.read().get("shots")
    assert (known.status, known.verdict.verdict) == ("stopped", "harmful")


def test_a_running_server_follows_within_seconds(serve, folder, tmp_path):
    with serve(reply="x", experiments=folder) as running:
        client = running.client()
        promoted(ExperimentLog(open_database(tmp_path / "journal.db")), "shown")
        until = time.monotonic() + 5
        while (arm := asked(client, "ann").parse().fewshot) and arm["assigned"]:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert arm["served"] == "shots/shown"


def test_an_arm_that_fails_may_fall_back_and_still_counts(serve, folder, tmp_path):
    shown = (
        'template = "few-shot@1"',
        'template = "few-shot@1"\non_failure = "control"\nretrieval = { store = "gone" }',
    )
    grounded = ('template = "few-shot@1"', 'template = "grounded@1"')
    (folder / "shots.toml").write_text(live(shown, grounded))
    experiment = parse_experiment(live(shown).encode(), "shots.toml")
    users = [f"user-{number}" for number in range(12)]
    with serve(reply="x", experiments=folder) as running:
        for user in users:
            told = asked(running.client(), user).parse().fewshot
            assert (told["arm"], told["served"]) == (assign(experiment, user).arm, "shots/plain")


BANDIT = ("ramp = 1.0", 'ramp = 1.0\nmode = "thompson"\nslice = 0.2')


def test_a_bandits_units_keep_their_arm_when_its_weights_move_also_on_other_replicas(
    replica, folder, tmp_path
):
    (folder / "shots.toml").write_text(live(BANDIT))
    first, book = replica()
    first.start()
    experiment = book.read().running.experiment
    logged(book._engine, experiment, start=time.time(), users=60, solved={"plain": 0.5, "shown": 0.9})
    users = [f"user-{number}" for number in range(60)]
    before = {user: meets(first, user=user).recipe.arm for user in users}
    assert book.open_phase("shots", {"plain": 0.05, "shown": 0.95}, after=1)
    assert not book.open_phase("shots", {"plain": 0.5, "shown": 0.5}, after=1)  # another was faster
    second, _ = replica()
    second.start()
    first.refresh()
    for follower in (first, second):
        met = {user: meets(follower, user=user) for user in users}
        assert {user: one.recipe.arm for user, one in met.items()} == before
        assert {one.phase for one in met.values()} == {1}
    fresh = [meets(second, user=f"new-{number}") for number in range(300)]
    assert {one.phase for one in fresh} == {2}
    assert min(one.propensity for one in fresh) >= 0.05
    assert sum(one.recipe.arm == "shown" for one in fresh) > 230


def test_a_turn_that_brings_what_a_function_gave_stays_with_its_arm(replica):
    follower, _ = replica()
    follower.start()
    asked = meets(follower, user="ann").arm
    called = [
        {"role": "user", "content": "How warm is it?"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "warmth", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "20"},
    ]
    assert meets(follower, user="ann", messages=called).arm == asked


def test_an_arm_shows_the_examples_of_its_own_pool(replica, folder):
    lines = [{"id": f"d{n}", "input": f"Question {n}", "output": f"Answer {n}"} for n in range(5)]
    pool = Pool(parse_lines(map(json.dumps, lines), "lines"))
    fewshot = (
        'static = { strategy = "fixed", ids = ["d3", "d1"] }, dynamic = { strategy = "bm25", count = 2 }'
    )
    shown = f'pool = "p@1"\nfewshot = {{ {fewshot} }}'
    (folder / "shots.toml").write_text(live(('template = "few-shot@1"', f'template = "few-shot@1"\n{shown}')))
    _, book = replica()
    follower = Follower(book, Experiments(), Library.load(), PoolDemos(None, pools={"p@1": pool}), folder)
    follower.start()
    (arm,) = [
        recipe for recipe in follower._experiments.in_force.running.recipes.values() if recipe.arm == "shown"
    ]
    assert [demo.id for demo in arm.template.demos] == ["d3", "d1"]
    assert (arm.template.dynamic.pool, arm.template.dynamic.count) == ("p@1", 2)
    (frozen,) = [one for one in book.read().get("shots").phases[0].arms if one.name == "shown"]
    assert frozen.digests["pool"] == pool.digest


def test_the_file_in_the_docs_can_be_used():
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    (shown, *_) = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    experiment = parse_experiment(shown.encode(), "docs", {one.reference for one in Library.load()})
    assert (experiment.name, experiment.ramp) == ("excerpt-shots", 0.0)
