"""The pool: strict lines, vectors of inputs kept beside it, picks that are functions of their arguments."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.demos import Pool
from prompts.errors import PoolError, PoolInvalid
from prompts.listing import parse_lines
from prompts.records import DemoPolicy
from prompts.vectors import evened

TOPICS = ("cat", "dog", "rain", "snow")


def embed(texts):
    """Counts of a few words, as unit rows; calls are remembered."""
    embed.calls.append(list(texts))
    rows = np.array([[1 + text.lower().count(topic) for topic in TOPICS] for text in texts], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


embed.calls = []


def line(id_, input_, output="yes", **more):
    return json.dumps({"id": id_, "input": input_, "output": output, **more})


LINES = (
    line("a", "cat cat", label="pet"),
    line("b", "dog dog", label="pet"),
    line("c", "rain rain", label="sky"),
    line("d", "snow snow", label="sky"),
    line("e", "cat dog", label="pet"),
)


def pool_of(lines=LINES):
    listing = parse_lines(lines, "here")
    vectors = embed([demo.input for demo in listing.demos])
    return Pool(listing, vectors=vectors, embed=embed)


def ids(picked):
    return [demo.id for demo in picked.demos]


def test_every_bad_line_is_named():
    lines = ["{", line("a", ""), line("b", "x", colour=1), line("c", "x"), line("c", "y"), '["z"]']
    lines.append(line("f", "x2", provenance={"split": "held_out"}))
    with pytest.raises(PoolInvalid) as caught:
        parse_lines(lines, "demos.jsonl")
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "line 1",
        "line 2",
        "line 3",
        "line 5",
        "line 6",
        "line 7",
    ]


def test_examples_that_say_the_same_are_kept_once():
    listing = parse_lines(
        [line("a", "Hello, you!"), "", line("b", "hello you"), line("c", "hello you", "no")], "x"
    )
    assert [demo.id for demo in listing.demos] == ["a", "c"]
    assert listing.duplicates == ("b",)


def test_the_digest_follows_what_the_demos_say():
    assert pool_of().digest == pool_of().digest
    assert pool_of().digest != pool_of(LINES[:4]).digest


def test_nearest_demos_end_with_the_nearest():
    picked = pool_of().pick("my cat", 2)
    assert ids(picked) == ["e", "a"]
    assert list(picked.scores) == sorted(picked.scores)
    assert ids(pool_of().pick("my cat", 2, order="nearest_first")) == ["a", "e"]


def test_a_demo_that_is_the_question_is_never_shown():
    assert "a" not in ids(pool_of().pick("Cat, cat!", 5))
    for strategy in ("fixed", "random"):
        assert "a" not in ids(pool_of().pick("CAT CAT", 5, strategy=strategy))


def test_too_far_or_too_many_of_a_label_means_fewer_demos():
    assert ids(pool_of().pick("cat cat cat", 5, max_distance=0.05)) == ["a"]
    labels = [demo.label for demo in pool_of().pick("cat", 5, per_label=1).demos]
    assert sorted(labels) == ["pet", "sky"]


def test_fixed_demos_come_as_listed_and_random_ones_by_seed():
    pool = pool_of()
    assert ids(pool.pick("?", 3, strategy="fixed")) == ["a", "b", "c"]
    draws = {seed: ids(pool.pick("one", 3, strategy="random", seed=seed)) for seed in range(8)}
    assert draws == {seed: ids(pool.pick("two", 3, strategy="random", seed=seed)) for seed in range(8)}
    assert len({tuple(draw) for draw in draws.values()}) > 1


def test_a_policy_is_followed():
    policy = DemoPolicy("nearest", count=1, order="nearest_first")
    assert ids(pool_of().follow(policy, "much snow")) == ["d"]
    assert ids(pool_of().follow(DemoPolicy(), "much snow")) == []


@given(
    st.permutations(range(5)), st.integers(0, 6), st.lists(st.sampled_from(TOPICS), min_size=1).map(" ".join)
)
def test_nearest_is_brute_force_with_ties_by_id_whatever_the_order_of_lines(order, count, question):
    pool = pool_of([LINES[at] for at in order])
    query = embed([question])[0]
    question_like = {
        demo.id for demo in pool.demos if demo.input.replace(" ", "") == question.replace(" ", "")
    }
    near = {
        demo.id: float(np.float32(embed([demo.input])[0] @ query))
        for demo in pool.demos
        if demo.id not in question_like
    }
    picked = pool.pick(question, count, order="nearest_first")
    best = sorted(near.values(), reverse=True)[:count]
    # Sums in another order differ in the last bit: scores are compared within it; only equal ones are ties.
    assert list(picked.scores) == pytest.approx(best, abs=1e-6)
    found = ids(picked)
    assert [near[id_] for id_ in found] == pytest.approx(best, abs=1e-6)
    for (first, mine), (second, other) in pairwise(zip(found, picked.scores, strict=True)):
        assert mine > other or first < second


def test_inputs_are_embedded_once_and_only_inputs(tmp_path):
    file = tmp_path / "pets.jsonl"
    file.write_text("\n".join(LINES))
    embed.calls.clear()
    first = Pool.load(file, embed=embed, embedder="m1")
    again = Pool.load(file, embed=embed, embedder="m1")
    assert embed.calls == [[demo.input for demo in first.demos]]
    assert again.pick("dog", 1) == first.pick("dog", 1)


@pytest.mark.parametrize("change", ["embedder", "lines", "damage"])
def test_vectors_that_do_not_belong_are_computed_again(tmp_path, change):
    file = tmp_path / "pets.jsonl"
    file.write_text("\n".join(LINES))
    Pool.load(file, embed=embed, embedder="m1")
    embed.calls.clear()
    if change == "lines":
        file.write_text("\n".join(LINES[1:]))
    if change == "damage":
        vectors = tmp_path / "pets.vectors.npy"
        vectors.write_bytes(vectors.read_bytes()[:-4])
    Pool.load(file, embed=embed, embedder="m2" if change == "embedder" else "m1")
    assert len(embed.calls) == 1


def test_vectors_are_asked_for_in_words():
    without = Pool(parse_lines(LINES, "here"))
    with pytest.raises(PoolError, match="load the pool with an embedder"):
        without.pick("cat", 1)
    with pytest.raises(PoolError, match="shape"):
        pool_of().pick("cat", 1, vector=np.ones(3, dtype=np.float32))
    with pytest.raises(PoolError, match="unit vectors"):
        Pool(parse_lines(LINES, "here"), vectors=np.ones((5, 4), dtype=np.float32))


@given(st.lists(st.lists(st.floats(0.1, 9), min_size=6, max_size=6), min_size=1, max_size=4))
def test_evened_poolings_weigh_alike(rows):
    given_rows = np.array(rows, dtype=np.float32)
    even = evened(lambda texts: given_rows, 2)(["x"] * len(rows))
    np.testing.assert_allclose(np.linalg.norm(even, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(even[:, :3], axis=1), 0.5**0.5, atol=1e-5)
    np.testing.assert_allclose(
        even[:, 0] * given_rows[:, 1], even[:, 1] * given_rows[:, 0], rtol=1e-3, atol=1e-6
    )


def test_vectors_not_made_of_so_many_poolings_are_refused():
    with pytest.raises(PoolError, match="3 equal poolings"):
        evened(embed, 3)(["cat"])
    assert evened(embed, 1) is embed


@pytest.mark.parametrize(
    ("input_", "told"), [('"\\ud800"', "half a character"), ("[" * 5000, "nested too deep")]
)
def test_a_line_that_no_file_could_hold_again_is_named(input_, told):
    line = f'{{"id": "a", "input": {input_}, "output": "b"}}'
    with pytest.raises(PoolInvalid, match=f"line 1: .*{told}"):
        parse_lines([line], "a.jsonl")
