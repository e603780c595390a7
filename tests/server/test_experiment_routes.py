"""/v1/experiments over real sockets."""

import httpx
import pytest

from server.wire.experiments import ExperimentPromotion, ExperimentRollback, ExperimentStop
from server.wire.fields import EXPERIMENT_DECISIONS
from tests.server.live_experiments import live

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def running(serve, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "shots.toml").write_text(live())
    with serve(reply="x", experiments=folder) as running:
        for user in ("ann", "bo", "cy", "dee"):
            running.client().chat.completions.create(model="echo", messages=HELLO, user=user)
        running.parts.journal.wait()
        yield running


def call(running, method, path, **body):
    return httpx.request(method, f"{running.url}/v1/experiments{path}", json=body or None, timeout=30)


def test_what_runs_is_listed_shown_and_reported(running):
    listed = call(running, "GET", "").json()
    assert [one["id"] for one in listed["data"]] == ["shots"]
    shown = call(running, "GET", "/shots").json()
    assert shown == listed["data"][0]
    assert (shown["status"], shown["control"], shown["metric"]) == ("running", "plain", "solved")
    assert sum(shown["exposures"].values()) == 4
    assert len(shown["salt_sha256"]) == 64
    report = call(running, "GET", "/shots/report").json()
    assert (report["verdict"], sum(arm["units"] for arm in report["arms"])) == ("running", 4)
    assert call(running, "GET", "/nothing").status_code == 404


def test_promotion_is_refused_forced_served_at_once_and_rolled_back(running):
    refused = call(running, "POST", "/shots/promote", arm="shown")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "experiment_state")
    assert refused.headers["x-should-retry"] == "false"
    unsaid = call(running, "POST", "/shots/promote", arm="shown", force=True)
    assert (unsaid.status_code, unsaid.json()["error"]["param"]) == (400, "reason")
    made = call(running, "POST", "/shots/promote", arm="shown", force=True, reason="launch").json()
    assert (made["before"], made["after"], made["forced"]) == ("shots/plain", "shots/shown", True)
    answer = running.client().chat.completions.create(model="echo", messages=HELLO, user="ann")
    assert (answer.fewshot["served"], answer.fewshot["assigned"]) == ("shots/shown", False)
    assert call(running, "GET", "/shots").json()["status"] == "promoted"
    back = call(running, "POST", "/shots/rollback", reason="worse").json()
    assert (back["action"], back["after"]) == ("rollback", "shots/plain")
    assert call(running, "POST", "/shots/rollback", reason="worse").status_code == 409


def test_a_stop_needs_a_reason_and_ends_it(running):
    assert call(running, "POST", "/shots/stop", reason="").status_code == 400
    stopped = call(running, "POST", "/shots/stop", reason="a fault").json()
    assert (stopped["action"], stopped["after"], stopped["by"]) == ("stop", "shots/plain", "local")
    assert call(running, "POST", "/shots/stop", reason="again").status_code == 409


def test_every_field_is_classed():
    named = {
        name
        for model in (ExperimentPromotion, ExperimentStop, ExperimentRollback)
        for name in model.model_fields
    }
    assert set(EXPERIMENT_DECISIONS) == named
