"""Two legs to one ranking with scores that mean something."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.fusion import READ, Background, Dense, Keyword, calibrate, fuse, standing
from indexer.records import Ranked

QUIET = Background(mean=0.1, deviation=0.1, chunks=1000)
unit = st.floats(0, 1)


def ranked(scores: dict[int, float]) -> Ranked:
    pairs = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
    return Ranked(tuple(row for row, _ in pairs), tuple(score for _, score in pairs))


@given(st.lists(st.floats(-1, 2), max_size=200))
def test_scores_are_six_decimals_between_0_and_1_and_fall_strictly(evidence):
    scores = calibrate(evidence)
    assert len(scores) == len(evidence)
    assert all(0 <= score <= 1 and round(score, 6) == score for score in scores)
    assert all(after < before for before, after in pairwise(scores))


@given(st.lists(unit, max_size=50, unique_by=lambda value: round(value * 1e5)))
def test_evidence_in_order_is_the_score(evidence):
    evidence = sorted(evidence, reverse=True)
    assert all(abs(score - value) <= 1e-4 for score, value in zip(calibrate(evidence), evidence, strict=True))


# Six decimals: scores that are nearer to each other are equal but for rounding, which no law governs.
scored = st.integers(10_000, 1_000_000).map(lambda millionths: millionths / 1e6)
legs = st.dictionaries(st.integers(1, 30), scored, max_size=20)


@given(dense=legs, keyword=legs, grasp=unit)
def test_the_order_is_that_of_the_sums_and_never_chance(dense, keyword, grasp):
    one = fuse(Dense(ranked(dense), QUIET, grasp), Keyword(ranked(keyword), 2.0))
    two = fuse(Dense(ranked(dense), QUIET, grasp), Keyword(ranked(keyword), 2.0))
    assert one == two
    assert {row for row, _ in one} == dense.keys() | keyword.keys()
    assert all(0 <= evidence <= 1 for _, evidence in one)


@given(dense=legs, keyword=legs.filter(bool))
def test_a_leg_that_grasps_nothing_changes_no_order(dense, keyword):
    fused = fuse(Dense(ranked(dense), QUIET, 0.0), Keyword(ranked(keyword), 2.0))
    order = [row for row, _ in fused if row in keyword]
    assert order == list(ranked(keyword).ids)


@given(dense=legs.filter(bool))
def test_a_keyword_leg_without_matches_leaves_the_dense_order(dense):
    fused = fuse(Dense(ranked(dense), QUIET, 1.0), Keyword(Ranked((), ()), 2.0))
    assert [row for row, _ in fused] == list(ranked(dense).ids)


closenesses = st.dictionaries(st.integers(1, 30), unit)


@given(dense=legs, keyword=legs, grasp=unit, close=closenesses)
def test_reading_loses_nothing_and_puts_what_was_read_first(dense, keyword, grasp, close):
    asked = []

    def read(rows):
        asked.extend(rows)
        return {row: close[row] for row in rows if row in close}

    fused = fuse(Dense(ranked(dense), QUIET, grasp), Keyword(ranked(keyword), 2.0), read=read)
    order = [row for row, _ in fused]
    assert sorted(order) == sorted(asked) == sorted(dense.keys() | keyword.keys())
    read_rows = [row for row in order if row in close]
    assert order[: len(read_rows)] == read_rows
    assert all(0 <= evidence <= 1 for _, evidence in fused)


def test_what_was_read_scores_by_cosine_share_and_closeness():
    few = Background(0.0, 0.0, 0)  # too few to doubt the leg
    dense = Dense(Ranked((1, 2), (0.6, 0.4)), few, 1.0)
    fused = dict(fuse(dense, Keyword(Ranked((1,), (1.0,)), 2.0), read=lambda rows: {1: 0.3, 2: 0.1}))
    for row, cosine, share, close in ((1, 0.6, 0.5, 0.3), (2, 0.4, 0.0, 0.1)):
        evidence = -2.85 + (5.4 * cosine - 3.4) + 3.0 * share + 10.0 * close
        assert fused[row] == pytest.approx(1 / (1 + math.exp(-evidence)))


@given(dense=legs, keyword=legs, grasp=unit)
def test_equal_closeness_changes_no_order_of_equal_keyword_scores(dense, keyword, grasp):
    flat = dict.fromkeys(keyword, 1.0)
    legs_ = Dense(ranked(dense), QUIET, grasp), Keyword(ranked(flat), 2.0)
    apart = {row for row, _ in fuse(*legs_)} - flat.keys()
    plain = [row for row, _ in fuse(*legs_) if row not in apart]
    read = [row for row, _ in fuse(*legs_, read=lambda rows: dict.fromkeys(rows, 0.5)) if row not in apart]
    assert read == plain


@given(dense=legs, keyword=legs.filter(bool), grasp=unit, close=closenesses.filter(bool), more=unit)
def test_a_text_that_is_closer_does_not_fall(dense, keyword, grasp, close, more):
    legs_ = Dense(ranked(dense), QUIET, grasp), Keyword(ranked(keyword), 2.0)
    known = sorted(dense.keys() | keyword.keys())
    before = {row: close.get(row, 0.0) for row in known} | {known[0]: 0.0}
    full = max(*before.values(), 0.1)
    after = before | {known[0]: more * full}  # the best stays, so nobody else's share changes

    def place(shares):
        return [row for row, _ in fuse(*legs_, read=lambda rows: shares)].index(known[0])

    assert place(after) <= place(before)


def test_the_closer_of_two_equal_texts_comes_first_and_only_the_best_are_read():
    scores = dict.fromkeys(range(1, READ + 11), 1.0)
    close = {READ: 0.4, READ + 5: 1.0}
    fused = fuse(
        Dense(Ranked((), ()), QUIET, 1.0),
        Keyword(ranked(scores), 2.0),
        read=lambda rows: {row: close.get(row, 0.2) for row in rows},
    )
    assert [row for row, _ in fused] == [READ, *range(1, READ), *range(READ + 1, READ + 11)]


def test_a_leg_alone_is_not_read():
    def read(rows):
        raise AssertionError("read")

    assert fuse(Dense(ranked({1: 0.5}), QUIET, 1.0), None, read=read)
    assert fuse(None, Keyword(ranked({1: 0.5}), 2.0), read=read)


def test_both_legs_together_beat_either():
    fused = fuse(Dense(ranked({1: 0.8, 2: 0.79}), QUIET, 1.0), Keyword(ranked({3: 1.0, 2: 0.9}), 2.0))
    assert fused[0][0] == 2


@given(dense=legs.filter(bool), keyword=legs.filter(bool), more=st.floats(1, 100))
def test_a_weight_moves_a_leg_s_own_finds_up_and_equal_weights_change_nothing(dense, keyword, more):
    legs_of = Dense(ranked(dense), QUIET, 1.0), Keyword(ranked(keyword), 2.0)
    assert fuse(*legs_of, weights=(more, more)) == fuse(*legs_of)

    def place(weights):
        return [row for row, _ in fuse(*legs_of, weights=weights)].index(ranked(keyword).ids[0])

    assert place((1.0, more)) <= place((1.0, 1.0)) <= place((more, 1.0))


@given(best=st.floats(-1, 1), more=st.floats(0, 0.5))
def test_standing_rises_with_the_distance_from_the_background(best, more):
    assert 0 <= standing(best, QUIET) <= standing(best + more, QUIET) <= 1


def test_a_best_hit_that_chance_explains_has_little_standing():
    assert standing(0.1 + 0.1 * 3.0, QUIET) < 0.4
    assert standing(0.1 + 0.1 * 6.0, QUIET) > 0.99
