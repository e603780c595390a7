"""The table of common terms against tantivy itself: sparing it the common terms changes no score."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import frequencies
from indexer.errors import StoreDamaged
from indexer.frequencies import ABOUT, COMMON, TABLE, Frequencies
from indexer.keywords import TantivyKeywords

LEAST = 2048  # texts, here
TEXTS = 4500
ROUNDED = 1e-6  # of sums of 32 bits in another order


def spread(seed: int, texts: int = TEXTS) -> list[str]:
    """Texts of 3 to 60 words, some of 300, whose words are as uneven as those of a language."""
    chance = np.random.default_rng(seed)
    lengths = np.where(chance.random(texts) < 0.01, 300, chance.integers(3, 60, texts))
    numbers = np.minimum(chance.zipf(1.3, lengths.sum()), 3000).tolist()
    ends = np.cumsum(lengths).tolist()
    return [
        " ".join(f"w{n}" for n in numbers[end - length : end])
        for end, length in zip(ends, lengths.tolist(), strict=True)
    ]


@pytest.fixture(scope="module", autouse=True)
def few_texts_are_enough():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequencies, "LEAST", LEAST)
        yield


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> TantivyKeywords:
    made = TantivyKeywords(tmp_path_factory.mktemp("index"))
    ids = 7 + 3 * np.random.default_rng(1).permutation(TEXTS)  # with gaps, in no order
    made.add(ids, spread(1))
    return made


def sparing(index, weights, top, share):
    """What is found with the table, if at most `share` of what the terms weigh is left to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequencies, "_SHARE", share)
        patch.setattr(frequencies, "_SPARED", 1)
        patch.setattr(frequencies, "_SPARED_EACH", 0)
        return index.hits(weights, top)


@settings(max_examples=60, deadline=None)
@given(
    common=st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True),
    rare=st.lists(st.integers(13, 400), min_size=1, max_size=6, unique=True),
    weights=st.lists(st.sampled_from([1.0, 2.0, 0.9371]), min_size=12, max_size=12),
    top=st.sampled_from([1, 10, 73, 200]),
    share=st.sampled_from([0.01, 0.035, 0.1, 0.3, 1.0]),
)
def test_the_best_are_tantivys_own(index, common, rare, weights, top, share):
    asked = {f"w{n}": weight for n, weight in zip([*common, *rare], weights, strict=False)}
    asked = {term: weight for term, weight in asked.items() if index.rarity(term).texts}
    every = index.named(index.hits(asked, 10 * TEXTS))  # too many to be spared anything
    own = dict(zip(every.ids, every.scores, strict=True))
    found = index.named(sparing(index, asked, top, share))
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert len(set(found.ids)) == len(found.ids) == min(top, len(own))
    assert [own[row] for row in found.ids] == pytest.approx(list(found.scores), rel=ROUNDED)
    assert list(found.scores) == pytest.approx(every.scores[:top], rel=ROUNDED)


def test_tantivy_is_asked_for_the_rarer_terms_only(index):
    table = Frequencies.opened(index._folder)
    asked = {term: (1.0, index.rarity(term).texts) for term in ("w1", "w2", "w3", "w30", "w50", "w300")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequencies, "_SHARE", 0.3)
        patch.setattr(frequencies, "_SPARED", 1)
        patch.setattr(frequencies, "_SPARED_EACH", 0)
        common = table.spared(asked, 10)
        assert common.terms.keys() == {"w1", "w2"} | common.terms.keys() & {"w3"}
        rarer = {term: 1.0 for term in asked.keys() - common.terms}
        tried = []

        def search(wanted):
            tried.append(wanted)
            return index._first(index._query(rarer), wanted)

        best = table.best(common, 10, search, lambda hits: index.named(hits).ids)
    assert best == sparing(index, {term: 1.0 for term in asked}, 10, 0.3)
    assert 0 < max(tried) < TEXTS


def test_equal_scores_are_in_the_order_of_ids(tmp_path):
    made = TantivyKeywords(tmp_path)
    texts = ["the of duck" if at % 30 == 0 else "the of pond" for at in range(LEAST)]
    made.add(np.arange(LEAST, 0, -1), texts)
    found = made.named(sparing(made, {"the": 1.0, "of": 1.0, "duck": 1.0}, 50, 0.9))
    assert len(set(found.scores)) == 1
    assert found.ids == sorted(range(LEAST, 0, -30))[:50]


def test_a_table_has_the_common_terms_and_goes_when_the_texts_change(tmp_path, index):
    about = json.loads((index._folder / ABOUT).read_text())
    shares = {term: index.rarity(term).texts / TEXTS for term in about["terms"]}
    assert min(shares.values()) >= 1 / COMMON
    assert shares["w1"] == max(shares.values())
    made = TantivyKeywords(tmp_path)
    made.add(np.arange(LEAST), ["the duck"] * LEAST)
    assert (tmp_path / TABLE).exists()
    before = made.match("the duck", 5)
    made.remove(np.array([0]))
    assert not (tmp_path / TABLE).exists()
    assert not (tmp_path / ABOUT).exists()
    assert made.match("the duck", 5).ids == (1, 2, 3, 4, 5) != before.ids
    made.add(np.arange(LEAST, 2 * LEAST), ["the duck"] * LEAST)  # of half of the texts a table would be wrong
    assert not (tmp_path / TABLE).exists()


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["the duck"] * (LEAST - 1), None),  # few
        ([f"duck{at}" for at in range(LEAST)], None),  # that share no term
        (["the duck " + "of " * (256 if at == 9 else 2) for at in range(LEAST)], {"the", "duck"}),
    ],
)
def test_what_cannot_be_told_exactly_or_would_not_help_is_left_out(tmp_path, texts, kept):
    TantivyKeywords(tmp_path).add(np.arange(len(texts)), texts)
    found = json.loads((tmp_path / ABOUT).read_text())["terms"] if (tmp_path / ABOUT).exists() else None
    assert (found and set(found)) == kept


def test_a_table_that_cannot_be_read_is_damage(tmp_path):
    TantivyKeywords(tmp_path).add(np.arange(LEAST), ["the duck"] * LEAST)
    (tmp_path / TABLE).write_bytes(b"nothing")
    with pytest.raises(StoreDamaged, match="keyword index"):
        TantivyKeywords(tmp_path)
