"""Nobody is starved by a key that asks for more: laws in virtual time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admission import Admission
from server.errors import QueueFull
from server.fairness import FairQueue

COSTS = st.lists(st.integers(1, 100), min_size=1, max_size=30)


@given(st.dictionaries(st.sampled_from("abcd"), COSTS, min_size=2))
def test_keys_that_all_wait_are_served_alike_whatever_they_ask_for(wanted):
    """While two keys both wait, what they were served differs by at most the two largest requests."""
    queue, served = FairQueue(), dict.fromkeys(wanted, 0)
    for key, costs in wanted.items():  # one after the other: the first could have had all
        for cost in costs:
            queue.put(key, (key, cost))
    largest = max(map(max, wanted.values()))
    while queue.head() is not None:
        busy = [key for key in wanted if queue.waiting(key)]
        for key in busy:
            for other in busy:
                assert abs(served[key] - served[other]) <= 2 * largest
        key, cost = queue.head()
        assert queue.take(cost) == (key, cost)
        served[key] += cost
    assert served == {key: sum(costs) for key, costs in wanted.items()}


@given(COSTS, st.integers(1, 100))
def test_a_newcomer_waits_for_one_request_of_each_other_key_at_most(costs, own):
    queue = FairQueue()
    for cost in costs:
        queue.put("hog", cost)
    queue.take(costs[0])
    queue.put("new", own)
    before = 0
    while queue.waiting("new"):
        before += queue.head() is not own or not queue.waiting("new")
        queue.take(queue.head())
    assert before <= 1


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 50), st.floats(0, 1)), max_size=60))
def test_costs_corrected_afterwards_count_as_if_they_had_been_known(steps):
    """Two keys always wait; each request is charged 50 and then corrected to what it was."""
    queue, truth = FairQueue(), {"a": 0.0, "b": 0.0}
    for key in truth:
        queue.put(key, key)
    for _, bound, share in steps:
        key = queue.head()
        assert truth[key] <= min(truth.values()) + 1e-6  # the one that had least
        queue.take(50)
        queue.put(key, key)
        really = bound * share
        queue.charge(key, really - 50)
        truth[key] += really


def test_who_stayed_away_has_saved_nothing_up():
    queue = FairQueue()
    for _ in range(20):
        queue.put("busy", "busy")
        queue.take(100)
    for _ in range(4):
        queue.put("busy", "busy")
        queue.put("back", "back")
    order = []
    while queue.head() is not None:
        order.append(queue.take(100))
    assert order == ["back", "busy"] * 4


def virtual(requests, *, running=2, queue=100):
    """Who was served when: (key, arrival, length) requests through a real Admission, in virtual time."""
    done: list[tuple[str, int]] = []
    refused: list[str] = []

    async def scenario():
        door = Admission(running=running, queue=queue, deadline_seconds=60)
        tick, tasks = asyncio.Condition(), []
        now = 0

        async def one(key, length):
            try:
                ticket = await door.enter(key=key, cost=length)
            except QueueFull:
                refused.append(key)
                return
            until = now + length
            async with tick:
                await tick.wait_for(lambda: now >= until)
            ticket.leave(length)
            done.append((key, now))

        waiting = sorted(requests, key=lambda request: request[1])
        while waiting or not all(task.done() for task in tasks):
            while waiting and waiting[0][1] <= now:
                key, _, length = waiting.pop(0)
                tasks.append(asyncio.create_task(one(key, length)))
                await asyncio.sleep(0)
            for _ in range(8):
                await asyncio.sleep(0)
            async with tick:
                now += 1
                tick.notify_all()
            for _ in range(8):
                await asyncio.sleep(0)
        assert (door.running, door.waiting) == (0, 0)

    asyncio.run(scenario())
    return done, refused


def test_a_key_at_ten_times_its_share_costs_nine_others_nearly_nothing():
    light = [(f"k{number}", 5 * step, 4) for number in range(9) for step in range(10)]
    hog = [("hog", 0, 4)] * 150

    def last(requests):
        done, refused = virtual(requests, running=8, queue=400)
        assert not refused
        return max(at for key, at in done if key != "hog")

    alone, beside = last(light), last(light + hog)
    assert beside <= 1.25 * alone + 8  # without fairness all of them would wait for the hog's 75 more


def test_a_full_queue_still_takes_those_with_less_than_their_share():
    done, refused = virtual([("hog", 0, 5)] * 12 + [("new", 1, 5)] * 2, running=1, queue=6)
    assert refused == ["hog"] * 7  # five over the bound, two whose places the newcomer got
    assert [key for key, _ in done].count("new") == 2
    assert [key for key, _ in done[:3]].count("new") >= 1


def test_within_its_share_a_full_queue_refuses():
    _, refused = virtual([("a", 0, 5)] * 3 + [("b", 0, 5)] * 4, running=1, queue=4)
    assert refused.count("b") == 2


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_those_crowded_out_leave_no_place_taken(order):
    virtual([(order[0], 0, 3)] * 9 + [(order[1], 0, 3)] * 3, running=1, queue=3)
