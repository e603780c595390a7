"""Every strategy equals its rule written out naively, and no guard ever lets a demo slip."""

import itertools
import json
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.annotation import annotate_next, vote_k
from prompts.demos import Pool
from prompts.diversity import LabelCap, by_dpp, by_mmr, dpp_kernel
from prompts.errors import PoolError
from prompts.keyword_scores import Bm25, words_of
from prompts.listing import parse_lines, same_text
from prompts.ordering import arranged, entropy, permutations, search_order
from prompts.records import Demo, DemoPolicy

WORDS = ("cat", "dog", "rain", "snow", "tea", "milk")
STRATEGIES = ("fixed", "random", "random_each", "nearest", "bm25", "mmr", "dpp", "balanced")


def embed(texts):
    rows = np.array([[0.3 + text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pool_of(texts, labels=None, units=None):
    rows = [
        {
            "id": f"d{at:02}",
            "input": text,
            "output": "x",
            "label": labels[at] if labels else f"l{at % 3}",
            **({"provenance": {"unit": units[at]}} if units else {}),
        }
        for at, text in enumerate(texts)
    ]
    listing = parse_lines(map(json.dumps, rows), "here")
    return Pool(listing, vectors=embed([demo.input for demo in listing.demos]), embed=embed)


texts = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
    min_size=1,
    max_size=12,
    unique=True,
)
questions = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)


@given(
    texts, questions, st.sampled_from(STRATEGIES), st.integers(0, 6), st.integers(1, 3), st.floats(0.05, 1)
)
def test_no_guard_ever_lets_a_demo_slip(inputs, question, strategy, count, per_label, far):
    units = [f"u{at % 4}" for at in range(len(inputs))]
    pool = pool_of(inputs, units=units)
    picked = pool.pick(
        question, count, strategy=strategy, per_label=per_label, max_distance=far, unit="u1", seed=3
    )
    assert len({demo.id for demo in picked.demos}) == len(picked.demos) == len(picked.scores) <= count
    assert all(same_text(demo.input) != same_text(question) for demo in picked.demos)
    assert all(demo.unit != "u1" for demo in picked.demos)
    assert max(Counter(demo.label for demo in picked.demos).values(), default=0) <= per_label
    if strategy not in ("fixed", "random"):
        near = embed([demo.input for demo in picked.demos]) @ embed([question])[0] if picked.demos else []
        assert all(1 - cosine <= far + 1e-5 for cosine in near)


@given(texts, questions)
def test_bm25_is_its_formula(inputs, question):
    tokens = [text.split() for text in inputs]
    mean = sum(map(len, tokens)) / len(tokens)

    def score(words):
        total = 0.0
        for term in set(question.split()):
            df = sum(term in other for other in tokens)
            f = words.count(term)
            idf = math.log(1 + (len(tokens) - df + 0.5) / (df + 0.5))
            total += idf * f * 2.5 / (f + 1.5 * (0.25 + 0.75 * len(words) / mean)) if f else 0
        return total

    assert np.allclose(Bm25(inputs).scores(question), [score(words) for words in tokens], rtol=1e-5)
    assert words_of("Two Payments, ﬁne!") == ["two", "payments", "fine"]


def unit_rows(seed, n, d=5):
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5))
def test_greedy_dpp_takes_what_the_determinant_says(seed, n, count):
    vectors = unit_rows(seed, n)
    cosines = vectors @ unit_rows(seed + 1, 1)[0]
    kernel = dpp_kernel(vectors, cosines)
    demos = [Demo(f"{at:02}", "i", "o") for at in range(n)]
    taken = by_dpp(list(range(n)), vectors, cosines, count, LabelCap(demos, None))
    for step, at in enumerate(taken):

        def volume(one, before=taken[:step]):
            rows = [*before, one]
            return np.linalg.det(kernel[np.ix_(rows, rows)])

        best = max(volume(one) for one in range(n) if one not in taken[:step])
        assert volume(at) >= best - 1e-9 - 1e-6 * abs(best)


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5))
def test_mmr_is_its_rule(seed, n, count):
    vectors = unit_rows(seed, n)
    cosines = vectors @ unit_rows(seed + 1, 1)[0]
    demos = [Demo(f"{at:02}", "i", "o") for at in range(n)]
    taken = by_mmr(list(range(n)), vectors, cosines, count, LabelCap(demos, None))
    assert len(taken) == min(count, n)
    for step, at in enumerate(taken):

        def gain(one, before=taken[:step]):
            like = max((float(vectors[one] @ vectors[other]) for other in before), default=0.0)
            return 0.5 * float(cosines[one]) - 0.5 * like

        assert gain(at) >= max(gain(one) for one in range(n) if one not in taken[:step]) - 1e-5


def test_balanced_takes_the_nearest_of_each_label_in_turn():
    pool = pool_of(["cat cat", "cat", "cat dog", "dog", "snow"], labels=["a", "a", "a", "b", "c"])
    picked = pool.pick("cat cat cat", 4, strategy="balanced", order="nearest_first")
    assert sorted(demo.label for demo in picked.demos) == ["a", "a", "b", "c"]
    static = pool.static(DemoPolicy("balanced", count=3, seed=5))
    assert sorted(demo.label for demo in static) == ["a", "b", "c"]
    assert static == pool.static(DemoPolicy("balanced", count=3, seed=5))


def test_fixed_ids_come_in_their_order_and_must_exist():
    pool = pool_of(["cat", "dog", "rain"])
    assert [demo.id for demo in pool.static(DemoPolicy("fixed", 2, ids=("d02", "d00")))] == ["d02", "d00"]
    with pytest.raises(PoolError, match="'d9'"):
        pool.pick("tea", 2, strategy="fixed", ids=("d9",))
    with pytest.raises(PoolError, match="cannot be static"):
        pool.static(DemoPolicy("mmr", 2))


def test_random_each_draws_for_each_question_and_random_once():
    pool = pool_of([f"{word} {other}" for word in WORDS for other in WORDS])
    for strategy, different in (("random", 1), ("random_each", 6)):
        draws = {
            tuple(sorted(demo.id for demo in pool.pick(f"{word} {word} {word}", 3, strategy=strategy).demos))
            for word in WORDS
        }
        assert len(draws) == different


def test_the_same_arguments_give_the_same_demos_in_any_process():
    program = (
        "from tests.prompts.test_strategies import *\n"
        "pool = pool_of(['cat dog', 'dog', 'rain cat', 'snow', 'tea milk', 'milk cat'])\n"
        "print([[d.id for d in pool.pick('cat milk', 3, strategy=s, order=o).demos] for s in STRATEGIES"
        " for o in ('shuffled', 'interleaved')])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_interleaved_has_no_equal_neighbours_while_that_is_possible(labels):
    demos = [Demo(f"{at}", "i", "o", label) for at, label in enumerate(labels)]
    rows = arranged(range(len(demos)), "interleaved", demos)
    assert sorted(rows) == list(range(len(demos)))
    possible = max(Counter(labels).values()) * 2 <= len(labels) + 1
    beside = any(demos[one].label == demos[two].label for one, two in itertools.pairwise(rows))
    assert not (possible and beside)


def test_search_order_keeps_the_orders_that_do_not_push_to_one_answer():
    demos = [Demo(name, name, name, name) for name in "abcd"]

    def probabilities(order, probe):
        """Whatever stands last is echoed, unless `b` stands there."""
        last = order[-1].id
        favourite = "abcd".index(last if last != "b" else "abcd"[int(probe)])
        return [0.7 if at == favourite else 0.1 for at in range(4)]

    found = search_order(demos, "0123", probabilities)
    assert len(found) == 4
    assert {one.demos[-1].id for one in found} == {"b"}
    assert found[0].global_entropy == pytest.approx(math.log(4))
    assert found[0].local_entropy == pytest.approx(entropy([0.7, 0.1, 0.1, 0.1]))
    assert len(set(permutations([Demo(str(at), "", "") for at in range(9)]))) == 24


def test_vote_k_is_its_rule_and_pool_and_evaluation_share_nothing():
    vectors = unit_rows(4, 30)
    near = [
        sorted(range(30), key=lambda o, v=v: (o == v, -float(vectors[v] @ vectors[o])))[:10]
        for v in range(30)
    ]
    picked = []
    for _ in range(6):

        def votes(u):
            return sum(
                10.0 ** -sum(p in near[v] for p in picked)
                for v in range(30)
                if v not in picked and u in near[v]
            )

        picked.append(max((u for u in range(30) if u not in picked), key=lambda u: (round(votes(u), 9), -u)))
    assert vote_k(vectors, 6) == picked
    texts = [f"question {at}" for at in range(28)] + ["Question 1!", "question 2?"]
    chosen = annotate_next(texts, vectors, 5)
    assert len(chosen.pool) == len(chosen.evaluation) == 5
    assert len({same_text(text) for text in (*chosen.pool, *chosen.evaluation)}) == 10
