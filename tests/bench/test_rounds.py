"""What interleaved rounds conclude, on machines whose noise and drift are known."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rounds import (
    Interval,
    Pair,
    difference,
    ending_after,
    estimate,
    floor,
    how_many,
    interleave,
    level,
    noise,
    order,
    ratio,
)


def machine(costs: dict[str, float], *, noise: float = 0.05, drift: float = 0.0, seed: int = 1):
    """Arms of known cost on a machine that jitters, and slows down by `drift` with every sample."""
    draw = random.Random(seed)
    taken = 0

    def arm(cost: float):
        async def sample() -> float:
            nonlocal taken
            taken += 1
            return cost * (1 + drift * taken) * draw.lognormvariate(0, noise)

        return sample

    return {name: arm(cost) for name, cost in costs.items()}


def run(arms, count=12):
    return asyncio.run(interleave(arms, count))


def test_rounds_go_there_and_back_and_begin_at_alternate_ends():
    assert order(["A", "B"], 0) == ["A", "B", "B", "A"]
    assert order(["A", "B"], 1) == ["B", "A", "A", "B"]


@pytest.mark.parametrize("seed", range(5))
def test_an_arm_against_itself_is_one(seed):
    rounds = run(machine({"A": 1.0, "B": 1.0}, seed=seed))
    found = ratio(rounds, "B", "A")
    assert found.value == pytest.approx(1, abs=0.04)
    assert noise(rounds, "A").low < 1.02
    assert noise(rounds, "A").high > 0.98


@pytest.mark.parametrize("seed", range(5))
def test_ten_per_cent_are_found_above_the_floor(seed):
    rounds = run(machine({"A": 1.0, "B": 1.1}, seed=seed, noise=0.03))
    found = ratio(rounds, "B", "A")
    assert found.low < 1.1 < found.high or found.value == pytest.approx(1.1, abs=0.03)
    assert found.low > 1
    assert found.value - 1 > floor(rounds, "A")


def test_a_drifting_machine_does_not_favour_an_arm():
    rounds = run(machine({"A": 1.0, "B": 1.0}, noise=0.001, drift=0.02))
    assert ratio(rounds, "B", "A").value == pytest.approx(1, abs=0.005)


def test_one_wild_round_does_not_move_the_estimate():
    assert estimate([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 9.0]).value == pytest.approx(1, abs=0.03)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12))
def test_the_estimate_lies_in_its_interval_and_in_the_data(values):
    found = estimate(values)
    assert min(values) <= found.low * 1.000001
    assert found.low <= found.value * 1.000001
    assert found.value <= found.high * 1.000001
    assert found.high <= max(values) * 1.000001


@given(st.lists(st.floats(0.5, 2), min_size=3, max_size=8), st.floats(0.1, 10))
def test_the_estimate_follows_the_unit(values, unit):
    scaled = estimate([value * unit for value in values])
    assert scaled == pytest.approx(Interval(*(part * unit for part in estimate(values))))


def test_a_level_is_that_of_the_rounds():
    assert level({"A": [Pair(1, 3), Pair(2, 2)]}, "A").value == pytest.approx(2)


@given(st.lists(st.tuples(st.floats(1, 9), st.floats(-3, 3)), min_size=1, max_size=8))
def test_a_difference_is_paired_whatever_the_rounds_have_in_common(rounds):
    """A round that is slow for both arms changes nothing, and neither does which arm is dearer."""
    under = [Pair(common, common) for common, _ in rounds]
    over = [Pair(common + more, common + more) for common, more in rounds]
    found = difference({"A": over, "B": under}, "A", "B")
    extra = [more for _, more in rounds]
    assert min(extra) - 1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= max(extra) + 1e-9
    assert difference({"A": under, "B": over}, "A", "B").value == pytest.approx(-found.value, abs=1e-9)


def test_time_that_is_up_ends_the_rounds_but_leaves_two():
    """Counted on a clock that the arms themselves take: a round of two arms is four samples."""

    async def sample() -> float:
        await asyncio.sleep(0.005)
        return 1.0

    said: list[str] = []

    async def rounds(seconds: float):
        with ending_after(seconds):
            return await interleave({"A": sample, "B": sample}, 3, said.append)

    few = asyncio.run(rounds(0.001))
    assert how_many(few) == "2 rounds"
    assert said[-1] == "time is up: 2 rounds instead of 3"
    assert len(asyncio.run(rounds(600.0))["A"]) == 3
    assert len(run({"A": sample, "B": sample}, count=3)["A"]) == 3  # outside, there is no end
