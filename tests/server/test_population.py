"""End to end: users, real server processes, feedback, verdicts, decisions. Nothing is reached into."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from indexer.database import open_database
from tests.server.population import live, servers, write_experiment, write_templates


class Place:
    def __init__(self, tmp_path):
        self.data, self.experiments, self.templates = (tmp_path / name for name in ("data", "exp", "wording"))
        self.data.mkdir()
        self.experiments.mkdir()
        write_templates(self.templates)

    def servers(self, count=1):
        return servers(self.data, self.experiments, self.templates, count)

    def rows(self, sql, *arguments):
        with open_database(self.data / "journal.db").connect() as connection:
            return connection.exec_driver_sql(sql, arguments).all()

    def fewshot(self, *arguments):
        environment = {
            **os.environ,
            "FEWSHOT_DATA_DIR": str(self.data),
            "FEWSHOT_PATHS_TEMPLATES": str(self.templates),
        }
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def experiment(url, name):
    return httpx.get(f"{url}/v1/experiments/{name}", timeout=60).json()


def report(url, name):
    return httpx.get(f"{url}/v1/experiments/{name}/report", timeout=60).json()


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.2)
    return found


def users(prefix, count):
    return [f"{prefix}-{number}" for number in range(count)]


def agrees(place, name, seen, made):
    """Population, journal and report: the same rows."""
    by_arm = {f"{name}/{arm['name']}": arm for arm in made["arms"]}
    logged = dict(
        place.rows(
            "select experiment || '/' || arm, count(*) from exposures where experiment = ? group by arm", name
        )
    )
    for arm, row in by_arm.items():
        assert row["turns"] == logged[arm] == seen.answers[arm]
        assert row["units"] == len(seen.units[arm])
    opinions = place.rows(
        "select e.experiment || '/' || e.arm, f.value, count(*) "
        "from feedback f join exposures e on e.turn = f.turn "
        "where f.metric = 'thumb' and e.experiment = ? group by 1, 2",
        name,
    )
    assert {(arm, value == "true"): count for arm, value, count in opinions} == dict(seen.thumbs)


def test_answers_and_opinions_that_were_acknowledged_survive_kill_9(place):
    write_experiment(place.experiments, "crash", letter="b", window=1.0)
    with place.servers() as (urls, (child,)):
        seen = asyncio.run(_killed(urls, child))
    assert seen.errors
    assert len(seen.turns) > 30
    kept = {turn for (turn,) in place.rows("select turn from exposures")}
    assert set(seen.turns) <= kept
    assert set(seen.opinions) <= {one for (one,) in place.rows("select id from feedback")}


async def _killed(urls, child):
    from tests.server.population import Seen

    seen = Seen()

    async def kill():
        async with asyncio.timeout(60):
            while len(seen.opinions) < 40:  # noqa: ASYNC110 - what is waited for is the users' doing
                await asyncio.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)

    await asyncio.gather(kill(), live(urls, users("crash", 400), seen=seen, forgiving=True))
    return seen


def test_a_small_population_agrees_with_journal_and_report(place):
    write_experiment(place.experiments, "small", letter="b", window=1.0)
    with place.servers() as (urls, _):
        seen = asyncio.run(live(urls, users("small", 60)))
        wait_for(lambda: sum(experiment(urls[0], "small")["exposures"].values()) == len(seen.turns))
        agrees(place, "small", seen, report(urls[0], "small"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_three_thousand_users_find_the_better_arm_and_get_it(place):
    write_experiment(place.experiments, "better", letter="b", ramp=0.5)
    with place.servers(2) as (urls, _):
        early = asyncio.run(live(urls, users("u", 300)))
        assert early.answers["better/first"] > early.answers["better/second"] > 0  # half is not enrolled
        write_experiment(place.experiments, "better", letter="b", ramp=1.0)
        wait_for(lambda: all(experiment(url, "better")["ramp"] == 1.0 for url in urls), 10)
        time.sleep(2)  # both replicas serve by it
        seen = asyncio.run(live(urls, users("v", 2700)))
        assert sum(seen.answers.values()) == len(seen.turns)
        verdict = wait_for(lambda: experiment(urls[0], "better")["verdict"])
        assert verdict == "winner"
        made = report(urls[0], "better")
        assert (made["verdict"], made["winner"], made["crossed_units"]) == ("winner", "second", 0)
        (effect,) = [one for one in made["comparisons"] if one["metric"] == "solved"]
        assert effect["lower"] < 0.16 < effect["upper"]
        assert not made["sample_ratio"]["assigned"]["alarm"]
        counted = {f"better/{arm['name']}": arm["turns"] for arm in made["arms"]}
        assert counted["better/second"] == seen.answers["better/second"] + early.answers["better/second"]
        exported = place.data / "outcomes.jsonl"
        place.fewshot("export", "outcomes", "--experiment", "better", "--out", str(exported))
        rows = [json.loads(line) for line in exported.read_text().splitlines()[1:]]
        assert len(rows) == sum(counted.values())
        switch_over(urls)
        later = asyncio.run(live(urls, users("w", 60)))
        assert set(later.answers) == {"better/second"}
        back = httpx.post(f"{urls[0]}/v1/experiments/better/rollback", json={"reason": "a drill"}, timeout=60)
        assert back.json()["after"] == "better/first"
        wait_for(lambda: all(served(url) == "better/first" for url in urls), 5)


def switch_over(urls):
    """Promote at one replica: it serves by it from its next answer on, the other within 5 seconds."""
    made = httpx.post(f"{urls[0]}/v1/experiments/better/promote", json={"arm": "second"}, timeout=120)
    assert made.status_code == 200, made.text
    done = time.monotonic()
    assert served(urls[0]) == "better/second"
    switched = wait_for(lambda: served(urls[1]) == "better/second" and time.monotonic(), 5)
    assert switched - done < 5
    for _ in range(20):
        assert {served(url) for url in urls} == {"better/second"}


def served(url):
    """What a caller without a unit is served."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
    told = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()
    letter = told["choices"][0]["message"]["content"][0]
    assert {"better/first": "A", "better/second": "B"}[told["fewshot"]["served"]] == letter
    return told["fewshot"]["served"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_arm_that_users_have_to_correct_is_stopped_though_they_like_it(place):
    write_experiment(place.experiments, "harm", letter="c")
    with place.servers() as (urls, _):
        url = urls[0]
        for round in range(30):
            asyncio.run(live(urls, users(f"h{round}", 100)))
            if experiment(url, "harm")["status"] != "running":
                break
        wait_for(lambda: experiment(url, "harm")["status"] == "stopped", 20)
        made = report(url, "harm")
        assert (made["verdict"], made["harmful_arm"]) == ("harmful", "second")
        assert any(one["breached"] and one["metric"] == "corrected" for one in made["guardrails"])
        stopped = [one for one in made["decisions"] if one["action"] == "stop"]
        assert [one["by"] for one in stopped] == ["server"]
        after = asyncio.run(live(urls, users("after", 50)))
        assert set(after.answers) == {"harm/first"}


FAULT = """
create trigger fault after insert on exposures
when new.arm = 'first' and instr('0123', substr(new.unit, 1, 1)) > 0
begin
  update exposures set arm = 'second' where turn = new.turn;
end
"""  # a fifth of the units of `first` is written down as `second`: 40 to 60 in the log


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fault_in_the_log_raises_the_alarm(place):
    write_experiment(place.experiments, "fault", letter="b", window=1.0)
    with place.servers() as (urls, _):
        with open_database(place.data / "journal.db").begin() as connection:
            connection.exec_driver_sql(FAULT)
        for round in range(20):
            asyncio.run(live(urls, users(f"f{round}", 100)))
            time.sleep(1.5)
            if experiment(urls[0], "fault")["status"] != "running":
                break
        wait_for(lambda: experiment(urls[0], "fault")["verdict"] == "invalid", 20)
        made = report(urls[0], "fault")
        assert made["sample_ratio"]["assigned"]["alarm"]
        counts = made["sample_ratio"]["assigned"]["counts"]
        assert 0.33 < counts["first"] / sum(counts.values()) < 0.47
