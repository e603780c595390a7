"""Callers leave at every phase: their places are free again, and what was begun is written down as ended."""

import asyncio

import pytest
from sqlalchemy import select

from indexer.database import open_database
from server.admission import Admission
from server.schema import exposures, plans, replies
from tests.server.leaving import leave_all, seconds_until

# Rounds, and seconds within which places are free: before every change the machine may be busy with others.
ROUNDS = [pytest.param(2, 10.0), pytest.param(20, 1.0, marks=pytest.mark.slow)]
EACH = 50  # callers a round


@pytest.mark.parametrize(("rounds", "free_seconds"), ROUNDS)
def test_wherever_a_caller_leaves_its_place_is_free_and_the_journal_knows(
    serve, tmp_path, rounds, free_seconds
):
    few = Admission(running=4, queue=64, deadline_seconds=60)  # most wait
    with serve(reply="x" * 40, first_seconds=0.05, interval_seconds=0.02, admission=few) as running:

        def free() -> bool:
            return few.running == few.waiting == running.decoder.running == 0

        taken = []
        for number in range(rounds):
            asyncio.run(leave_all(running.url, EACH, seed=number))
            taken.append(seconds_until(free, 30))
        # One slow moment of a busy machine is no leak; most of them are.
        assert sorted(taken)[len(taken) // 2] <= free_seconds, taken
        assert max(taken) < 30, taken
        answer = running.client().chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "Still here?"}], max_tokens=3
        )
        assert answer.choices[0].message.content == "xxx"
        running.parts.journal.wait()
        assert running.parts.journal.dropped == 0
        refused = running.parts.metrics.registry.get_sample_value(
            "fewshot_admission_rejected_total", {"reason": "queue_full"}
        )
        assert not refused
    engine = open_database(tmp_path / "journal.db")
    with engine.connect() as connection:
        met, planned = (
            connection.execute(select(table.c.turn)).scalars().all() for table in (exposures, plans)
        )
        ended = connection.execute(select(replies.c.turn, replies.c.outcome)).all()
    engine.dispose()
    assert sorted(planned) == sorted(turn for turn, _ in ended)
    assert {*planned} <= {*met}
    outcomes = [outcome for _, outcome in ended]
    assert set(outcomes) <= {"stop", "length", "cancelled"}
    assert outcomes.count("cancelled") > rounds
