"""Judging by the journal: the evaluator finds what the report says; decisions are one logged step."""

import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from indexer.database import open_database
from prompts.templates import Library
from server.cli import main
from server.deciding import promote
from server.demonstrations import PoolDemos
from server.enrolment import Enrolment
from server.errors import ExperimentState, InvalidValue
from server.evaluating import Evaluator, found_digest, report_from
from server.experiment_log import ExperimentLog
from server.experiments import Experiments
from server.following import Follower
from server.schema import decisions, definitions, exposures
from tests.server.live_experiments import live
from tests.server.traffic import logged

HOUR = 3600.0
BETTER = {"plain": 0.5, "shown": 0.68}
GUARDED = (
    (
        "[decide]",
        '[metrics.slow]\nfrom = "request.ttft_ms > 800"\nper_unit = "any"\nbetter = "lower"\n'
        "window_hours = 1\n[decide]",
    ),
    ('primary = "solved"', 'primary = "solved"\nguardrails = [{ metric = "slow", margin = 0.05 }]'),
    ("window_hours = 24", "window_hours = 1"),
)


class World:
    """A journal, one experiment in it, and time that passes when told."""

    def __init__(self, tmp_path, *edits):
        folder = tmp_path / "experiments"
        folder.mkdir(exist_ok=True)
        (folder / "shots.toml").write_text(live(*edits))
        self.engine = open_database(tmp_path / "journal.db")
        self.log = ExperimentLog(self.engine)
        self.follower = Follower(
            self.log,
            Experiments(),
            Library.load(),
            PoolDemos(None),
            folder,
            enrolment=lambda name: Enrolment(self.engine, name, lambda tenant, unit: unit),
        )
        self.follower.start()
        self.evaluator = Evaluator(self.engine, self.log)

    @property
    def known(self):
        return self.log.read().get("shots")

    def traffic(self, **fields):
        fields = {"start": self.known.started, "users": 2000, "solved": BETTER, **fields}
        return logged(self.engine, self.known.experiment, **fields)

    def later(self, hours):
        return self.known.started + hours * HOUR


@pytest.fixture
def world(tmp_path):
    return lambda *edits: World(tmp_path, *(edits or GUARDED))


def test_the_evaluator_finds_the_winner_that_the_report_says(world):
    here = world()
    here.traffic()
    assert here.evaluator.look(here.later(1)).verdict.finding == "running"
    found = here.evaluator.look(here.later(5))
    report = report_from(here.engine, here.known, here.later(5))
    assert (found.verdict.finding, found.verdict.arm) == ("winner", "shown")
    assert (report["verdict"], report["winner"]) == ("winner", "shown")
    assert report["decided_at"] == found.verdict.at
    assert here.known.verdict.verdict == "winner"
    assert here.known.status == "running"  # people promote, servers do not
    assert here.evaluator.look(here.later(6)) is None


def test_looking_often_and_once_gives_the_same_verdict(world):
    here = world()
    here.traffic(users=1500)
    once = Evaluator(here.engine, here.log)
    often = None
    for quarter in range(1, 13):
        often = here.evaluator.look(here.later(quarter / 4)) or often
        if often and often.verdict.finding != "running":
            break
    fresh = report_from(here.engine, here.known, here.later(9))
    assert (fresh["verdict"], fresh["decided_at"]) == (often.verdict.finding, often.verdict.at)
    assert once.look(here.later(9)) is None  # the verdict is known


def test_harm_stops_the_experiment_at_once(world):
    here = world()
    here.traffic(slow={"plain": 0.02, "shown": 0.4})
    here.evaluator.look(here.later(2))
    assert (here.known.verdict.verdict, here.known.status) == ("harmful", "stopped")
    here.follower.refresh()
    in_force = here.follower._experiments.in_force
    assert in_force.running is None
    assert in_force.default.reference == "shots/plain"


def test_exposures_that_get_lost_raise_the_alarm_before_any_window_closes(world):
    here = world()
    here.traffic(lost={"plain": 1 / 3})  # 60 to 40 of what is logged
    found = here.evaluator.look(here.later(0.9))
    assert found.verdict.finding == "invalid"
    assert here.known.status == "stopped"


def test_a_sample_ratio_that_is_wrong_is_told_at_once_and_after_a_restart(world):
    here, told = world(), {}
    Evaluator(here.engine, here.log, told.__setitem__).look(here.later(0.1))
    assert told == {"shots": False}
    here.traffic(lost={"plain": 1 / 3})
    Evaluator(here.engine, here.log, told.__setitem__).look(here.later(0.9))
    assert told == {"shots": True}
    told.clear()
    assert Evaluator(here.engine, here.log, told.__setitem__).look(here.later(1)) is None
    assert told == {"shots": True}


def test_the_report_agrees_with_the_journal_to_the_row(world):
    here = world()
    rows = here.traffic(users=600)[exposures]
    report = report_from(here.engine, here.known, here.later(9))
    for arm in report["arms"]:
        own = [row for row in rows if row["arm"] == arm["name"]]
        assert arm["turns"] == len(own)
        assert arm["units"] == len({row["unit"] for row in own})
    assert report["sample_ratio"]["assigned"]["counts"] == {
        arm["name"]: arm["units"] for arm in report["arms"]
    }


def test_only_a_winner_is_promoted_unless_somebody_says_why(world):
    here = world()
    here.traffic(users=100)
    with pytest.raises(ExperimentState, match="not promoted"):
        promote(here.engine, here.log, "shots", "shown", by="kim")
    with pytest.raises(InvalidValue, match="say why"):
        promote(here.engine, here.log, "shots", "shown", by="kim", force=True)
    with pytest.raises(InvalidValue, match="no arm"):
        promote(here.engine, here.log, "shots", "other", by="kim")
    made = promote(here.engine, here.log, "shots", "shown", by="kim", force=True, because="launch day")
    assert (made.forced, made.reason, made.verdict) == (True, "launch day", "running")
    assert here.log.read().default == "shots/shown"


def test_the_commands_tell_the_whole_story(world, tmp_path):
    here = world()
    with here.engine.begin() as connection:
        connection.execute(sa.update(definitions).values(at=definitions.c.at - 9 * HOUR))
    here.traffic()
    here.evaluator.look(here.later(9))
    runner = CliRunner(env={"FEWSHOT_DATA_DIR": str(tmp_path)})

    def run(*arguments, code=0):
        done = runner.invoke(main, ["experiment", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    assert "running   winner" in run("list")
    assert "shots/plain, its control" in run("list")
    report = json.loads(run("report", "shots", "--json"))
    assert (report["status"], report["winner"]) == ("running", "shown")
    assert "Verdict: WINNER" in run("report", "shots")
    assert "not promoted" in run("promote", "shots", "plain", code=1)
    made = json.loads(run("promote", "shots", "shown", "--json"))
    assert (made["before"], made["after"], made["report_sha256"]) == (
        "shots/plain",
        "shots/shown",
        found_digest(report),
    )
    assert "promoted" in run("promote", "shots", "shown", code=1)
    assert "say why" in run("stop", "shots", code=2)
    assert "shots/plain is served by default" in run("rollback", "--because", "complaints")
    assert "nothing to roll back" in run("rollback", code=1)
    assert "no experiment" in run("report", "nothing", code=1)
    with here.engine.connect() as connection:
        done = connection.execute(sa.select(decisions.c.action).order_by(decisions.c.id)).scalars().all()
    assert done == ["verdict", "promote", "rollback"]


def test_a_bandit_opens_its_phases_and_finds_the_better_arm_by_them(world):
    here = world(
        ("ramp = 1.0", 'ramp = 1.0\nmode = "thompson"\nslice = 0.2'),
        ("window_hours = 24", "window_hours = 0.1"),
    )
    weights, number = [], 0
    for phase in range(1, 12):
        start = here.known.phases[-1].started
        here.traffic(start=start, users=150, solved={"plain": 0.4, "shown": 0.7}, first=number)
        number += 150
        now = start + 1000.0
        here.evaluator.look(now)
        if here.known.verdict is not None:
            break
        assert len(here.known.phases) == phase + 1
        weights.append({arm.name: arm.weight for arm in here.known.phases[-1].arms})
        with here.engine.begin() as connection:  # as if the phase had opened when its units had closed
            newest = sa.select(sa.func.max(definitions.c.id)).scalar_subquery()
            moved = sa.update(definitions).where(definitions.c.id == newest)
            connection.execute(moved.values(at=now))
    assert here.known.verdict.verdict == "winner"
    assert weights[-1]["shown"] > 0.8
    assert all(abs(sum(of.values()) - 1) < 1e-9 and min(of.values()) >= 0.05 for of in weights)
    report = report_from(here.engine, here.known, start + 9 * HOUR)
    assert (report["verdict"], report["winner"]) == ("winner", "shown")
