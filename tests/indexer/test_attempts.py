"""Attempts: one claim at a time, results kept for a while, the dead taken over."""

import threading

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import attempts
from indexer.attempts import LEASE_SECONDS, NAMED_SECONDS, REPEATED_SECONDS, abandon, begin, complete
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.schema import attempts as table


@pytest.fixture
def catalogue(tmp_path):
    opened = Catalogue(tmp_path)
    yield opened
    opened.close()


def older(catalogue, seconds):
    with writing(catalogue.engine) as connection:
        connection.execute(sa.update(table).values(begun_at=table.c.begun_at - seconds))


def states(catalogue, *asked):
    return [begin(catalogue, *one[0], **one[1]).state for one in asked]


def test_a_name_stands_for_one_thing_of_one_caller(catalogue):
    first = begin(catalogue, "a", "x", name="n")
    assert states(
        catalogue,
        (("a", "x"), {"name": "n"}),
        (("a", "y"), {"name": "n"}),
        (("b", "y"), {"name": "n"}),
        (("a", "y"), {"name": "m"}),
    ) == ["running", "other", "yours", "yours"]
    complete(catalogue, first.id, "result")
    assert begin(catalogue, "a", "x", name="n") == ("done", first.id, "result", False)
    assert begin(catalogue, "a", "y", name="n").state == "other"


def test_without_a_name_only_a_repetition_finds_the_newest_attempt(catalogue):
    made = [begin(catalogue, "a", "x").id for _ in range(2)]
    assert len(set(made)) == 2
    assert begin(catalogue, "a", "x", repeated=True)[:2] == ("running", made[1])
    complete(catalogue, made[1], "two")
    assert begin(catalogue, "a", "x", repeated=True).result == "two"
    assert begin(catalogue, "b", "x", repeated=True).state == "yours"
    assert begin(catalogue, "a", "y", repeated=True).state == "yours"
    begin(catalogue, "a", "z", name="n")
    assert begin(catalogue, "a", "z", repeated=True).state == "yours"  # that one has its name


def test_what_failed_is_tried_anew(catalogue):
    first = begin(catalogue, "a", "x", name="n")
    abandon(catalogue, first.id)
    second = begin(catalogue, "a", "y", name="n")
    assert (second.state, second.again) == ("yours", False)
    assert second.id != first.id


def test_an_attempt_whose_process_died_is_taken_over_once_under_its_id(catalogue):
    first = begin(catalogue, "a", "x", name="n")
    older(catalogue, LEASE_SECONDS + 1)
    assert begin(catalogue, "a", "x", name="n") == ("yours", first.id, None, True)
    assert begin(catalogue, "a", "x", name="n").state == "running"


@pytest.mark.parametrize(("name", "seconds"), [("n", NAMED_SECONDS), (None, REPEATED_SECONDS)])
def test_results_are_kept_for_their_time_and_no_longer(catalogue, name, seconds):
    complete(catalogue, begin(catalogue, "a", "x", name=name).id, "r")
    older(catalogue, seconds - 5)
    assert begin(catalogue, "a", "x", name=name, repeated=True).state == "done"
    older(catalogue, 10)
    attempts.forget(catalogue)
    with catalogue.engine.connect() as connection:
        assert connection.execute(sa.select(table.c.result)).scalars().all() == []
    assert begin(catalogue, "a", "x", name=name, repeated=True).state == "yours"


def test_of_many_at_once_one_does_it(catalogue):
    found = []
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        found.append(begin(catalogue, "a", "x", name="n").state)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["running"] * 7 + ["yours"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from("xy"),
        st.sampled_from(["n", None]),
        st.booleans(),
        st.sampled_from(["complete", "abandon", "leave"]),
    ),
    max_size=12,
)


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_no_name_is_ever_done_twice_and_every_result_is_that_of_its_content(tmp_path_factory, steps):
    catalogue = Catalogue(tmp_path_factory.mktemp("c"))
    done = {}
    for caller, content, name, repeated, then in steps:
        standing = attempts.begin(catalogue, caller, content, name=name, repeated=repeated)
        if standing.state == "yours":
            assert name is None or (caller, name) not in done
            if then == "complete":
                attempts.complete(catalogue, standing.id, f"{caller}{content}")
                done[caller, name] = content
            elif then == "abandon":
                attempts.abandon(catalogue, standing.id)
        elif standing.state == "done":
            assert standing.result == f"{caller}{content}"
        elif standing.state == "other":
            assert name is not None
    catalogue.close()
