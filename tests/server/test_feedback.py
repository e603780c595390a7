"""What callers think of answers, over real sockets."""

import httpx
import pytest
import sqlalchemy as sa

from indexer.database import open_database, writing
from server.errors import Overloaded, UnsupportedParameter
from server.feedback import WINDOW_HOURS, Feedback, Opinion
from server.schema import exposures, feedback
from server.wire.feedback import FeedbackRequest
from server.wire.fields import FEEDBACK
from tests.server.live_experiments import live

ASK = [{"role": "user", "content": "Hello"}]


def give(running, key="any", **body):
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{running.url}/v1/feedback", json=body, headers=headers)


def test_an_opinion_joins_the_answer_by_its_id_and_a_second_one_replaces_it(serve, tmp_path):
    with serve(reply="x") as running:
        client = running.client()
        ids = [
            client.chat.completions.create(model="echo", messages=ASK).id,
            client.completions.create(model="echo", prompt="Hello").id,
            client.responses.create(input="Hello", store=False).id,
        ]
        for answer_id in ids:
            first = give(running, id=answer_id, metric="thumb", value=True, comment="nice").json()
            second = give(running, id=answer_id, metric="thumb", value=False).json()
            rating = give(running, id=answer_id, metric="rating", value=1).json()
            assert first["object"] == "feedback"
            assert first["id"].startswith("fb_")
            assert (first["target"], first["value"], first["replaced"], first["late"]) == (
                answer_id,
                True,
                False,
                False,
            )
            assert (second["value"], second["replaced"], rating["replaced"]) == (False, True, False)
        with open_database(tmp_path / "journal.db").connect() as connection:
            kept = connection.execute(sa.select(feedback.c.value).order_by(feedback.c.id)).scalars().all()
    assert kept == ["true", "false", "1.0"] * 3


def test_opinions_are_counted_by_experiment_and_arm_and_refused_ones_are_not(serve, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "shots.toml").write_text(live())
    with serve(reply="x", experiments=folder) as running:

        def counted(metric, experiment="none", arm="none"):
            labels = {"metric": metric, "experiment": experiment, "arm": arm}
            return running.parts.metrics.registry.get_sample_value("fewshot_feedback_total", labels)

        client = running.client()
        counts = client.chat.completions.create(model="echo", messages=ASK, user="u1")
        pinned = client.completions.create(model="echo", prompt="Hello")
        with open_database(tmp_path / "journal.db").connect() as connection:
            arm = connection.execute(
                sa.select(exposures.c.arm).where(exposures.c.turn == counts.id)
            ).scalar_one()
        for _ in range(2):
            give(running, id=counts.id, metric="thumb", value=True)
        give(running, id=pinned.id, metric="rating", value=0.5)
        give(running, id="chatcmpl-nope", metric="thumb", value=True)
        assert counted("thumb", "shots", arm) == 2
        assert counted("rating") == 1
        assert counted("thumb") is None


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"metric": "thumb", "value": True, "id": "chatcmpl-nope"}, 404, "id"),
        ({"metric": "stars", "value": 1.0}, 400, "metric"),
        ({"metric": "thumb", "value": 1.0}, 400, "value"),
        ({"metric": "rating", "value": 1.5}, 400, "value"),
        ({"metric": "correction", "value": ""}, 400, "value"),
        ({"metric": "thumb", "value": True, "choice": 1}, 400, "choice"),
        ({"metric": "thumb"}, 400, "value"),
        ({"metric": "thumb", "value": True, "mood": "bad"}, 400, "mood"),
    ],
)
def test_what_is_no_opinion_of_an_answer_is_refused(serve, body, status, param):
    with serve(reply="x") as running:
        answer_id = running.client().chat.completions.create(model="echo", messages=ASK).id
        refused = give(running, **{"id": answer_id, **body})
    assert refused.status_code == status
    assert refused.json()["error"]["param"].startswith(param)


def test_another_tenants_answer_cannot_be_judged(serve):
    with serve(with_keys=True, reply="x") as running:
        keys = {
            tenant: running.keys.create(tenant=tenant, scopes=["infer", "feedback"]) for tenant in ("a", "b")
        }
        mine = running.client(api_key=keys["a"]).chat.completions.create(model="echo", messages=ASK).id
        foreign = give(running, keys["b"], id=mine, metric="thumb", value=True)
        absent = give(running, keys["b"], id="chatcmpl-nope", metric="thumb", value=True)
        assert give(running, keys["a"], id=mine, metric="thumb", value=True).status_code == 200
    assert (foreign.status_code, foreign.json()) == (404, absent.json())


@pytest.fixture
def engine(tmp_path):
    engine = open_database(tmp_path / "journal.db")
    Feedback(engine)
    return engine


def expose(engine, at):
    row = {"turn": "chatcmpl-1", "at": at, "tenant": "t", "unit": "u", "unit_kind": "user", "model": "m"}
    with engine.begin() as connection:
        connection.execute(sa.insert(exposures).values({**row, "metadata": "{}"}))


def test_what_comes_after_the_window_is_kept_as_late(engine):
    expose(engine, at=0.0)
    assert Feedback(engine).take("t", "k", Opinion(target="chatcmpl-1", metric="thumb", value=True)).late
    assert WINDOW_HOURS == 24


def test_where_no_text_is_kept_there_are_no_comments_and_no_corrections(engine):
    expose(engine, at=0.0)
    quiet = Feedback(engine, keep="digests")
    quiet.take("t", "k", Opinion(target="chatcmpl-1", metric="thumb", value=True, comment="a secret"))
    with pytest.raises(UnsupportedParameter):
        quiet.take("t", "k", Opinion(target="chatcmpl-1", metric="correction", value="a secret"))
    with engine.connect() as connection:
        assert connection.execute(sa.select(feedback.c.comment)).scalars().all() == [None]


def test_every_field_is_classed():
    assert set(FEEDBACK) == set(FeedbackRequest.model_fields)


def test_a_journal_that_others_keep_busy_is_said_to_be_and_nothing_is_half_taken(engine, tmp_path):
    expose(engine, at=0.0)
    hasty = open_database(tmp_path / "journal.db")
    opinions = Feedback(hasty)
    with hasty.connect() as waiting:
        waiting.exec_driver_sql("PRAGMA busy_timeout = 0")
    with writing(engine), pytest.raises(Overloaded):
        opinions.take("t", "k", Opinion(target="chatcmpl-1", metric="thumb", value=True))
    assert opinions.take("t", "k", Opinion(target="chatcmpl-1", metric="thumb", value=True)).id
