"""tantivy against the formula."""

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import scored
from indexer.keywords import TantivyKeywords, match, terms
from indexer.words import words
from tests.indexer.oracles import NaiveKeywords

TEXTS = [
    "Ducks swim on ponds and ducks quack.",
    "A pond in winter.",
    "Running runners ran a race around the pond.",
    "黑豹队的防守只丢了308分，在联赛中排名第六",
    "野马队在分区轮击败了匹兹堡钢人队",
    "Die Ente schwimmt.",
    "Ducks, ducks, ducks!",
]
IDS = np.arange(1, len(TEXTS) + 1)
QUESTIONS = ["ducks on a pond", "runs", "黑豹队防守", "匹兹堡", "ducks ducks pond", "nothing of it", ""]


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_segment_scores_by_the_formula(tmp_path, question):
    real, oracle = TantivyKeywords(tmp_path / "k"), NaiveKeywords()
    real.add(IDS, TEXTS)
    oracle.add(IDS, TEXTS)
    found, expected = real.match(question, 10), oracle.match(question, 10)
    assert dict(zip(found.ids, found.scores, strict=True)) == pytest.approx(
        dict(zip(expected.ids, expected.scores, strict=True)), rel=1e-4
    )


def test_a_term_is_as_rare_as_it_is_in_all_segments_together(tmp_path):
    few, many = TantivyKeywords(tmp_path / "few"), TantivyKeywords(tmp_path / "many")
    few.add(np.array([1, 2]), ["often here", "seldom here"])
    many.add(np.arange(3, 40), ["often there"] * 37)
    assert few.match("often seldom", 2).scores[0] == few.match("often seldom", 2).scores[1]
    assert match([few, many], "often seldom", 2)[0].ids[0] == 2


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> list[TantivyKeywords]:
    """Three indexes; the smallest but one has the best texts."""
    made, first = [], 1
    for many, often in ((400, 1), (40, 30), (5, 3)):
        made.append(TantivyKeywords(tmp_path_factory.mktemp("uneven")))
        texts = ["duck " * (1 + at % often) + "pond water " * (at % 7) for at in range(many)]
        made[-1].add(np.arange(first, first + many), texts)
        first += many
    return made


@pytest.mark.parametrize("top", [1, 20, 39, 60, 200, 600])
@pytest.mark.parametrize("question", ["duck", "pond", "duck pond water"])
def test_an_index_with_more_than_its_share_of_the_best_gives_them_all(uneven, question, top):
    expected = match(uneven, question, top, allowed=np.arange(1, 446))  # all of them, by the way of filters
    assert match(uneven, question, top) == expected


def test_indexes_of_many_texts_are_searched_side_by_side_with_the_same_results(uneven, monkeypatch):
    questions = ["duck", "pond duck water", "nothing of it"]
    expected = [match(uneven, question, 50) for question in questions]
    monkeypatch.setattr(scored, "MANY", 400)  # of 445
    assert [match(uneven, question, 50) for question in questions] == expected


@pytest.mark.parametrize("top", [1, 20, 60, 600])
@pytest.mark.parametrize("step", [1, 2, 40])
def test_hidden_texts_take_no_place_however_many_there_are(uneven, step, top):
    best = match(uneven, "duck pond", 200)[0].ids
    hidden = np.sort(np.array(best[::step], dtype=np.int64))
    expected = match(uneven, "duck pond", top, hidden, allowed=np.arange(1, 446))
    assert match(uneven, "duck pond", top, hidden) == expected


def test_removed_and_hidden_texts_are_not_found_and_take_no_place(tmp_path):
    index = TantivyKeywords(tmp_path / "k")
    index.add(IDS, TEXTS)
    index.remove(np.array([7]))
    assert set(index.match("ducks pond", 10).ids) == {1, 2, 3}
    assert index.match("ducks pond", 2, hidden=np.array([1])).ids == (2, 3)
    assert index.ids().tolist() == [1, 2, 3, 4, 5, 6]


def test_no_text_scores_above_the_most(tmp_path):
    index = TantivyKeywords(tmp_path / "k")
    index.add(IDS, ["duck " * 500, *TEXTS[1:]])
    ranked, most = match([index], "duck", 1)
    assert 0.8 * most < ranked.scores[0] <= most


def test_words_of_every_script():
    assert terms("Running VACCINES") == ["run", "vaccin"]
    assert words("中文字 abc１２") == ["中", "文", "字", "中文", "文字", "abc12"]
    assert words("Привет, мир!") == ["привет", "мир"]


def test_words_are_stemmed_by_the_rules_for_their_script():
    assert terms("столица столицы Running") == ["столиц", "столиц", "run"]
    assert terms("الكتاب كتاب") == ["كتاب", "كتاب"]
    assert terms("running в столице of 東京") == ["run", "в", "столиц", "of", "東", "京", "東京"]


@given(st.text("Run в العربيةнг 京é1 ", max_size=30))
def test_every_word_has_a_term(text):
    assert len(terms(text)) == len(words(text))


def test_an_index_of_release_0_1_0_is_found_by_the_words_it_was_written_with(tmp_path):
    schema = (
        tantivy.SchemaBuilder()
        .add_integer_field("id", indexed=True, fast=True)
        .add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
        .build()
    )
    folder = tmp_path / "old"
    folder.mkdir()
    writer = tantivy.Index(schema, path=str(folder)).writer(32_000_000, 1)
    for row, text in ((1, "столицы duck"), (2, "столица duck")):
        document = tantivy.Document()
        document.add_integer("id", row)
        document.add_text("terms", text)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    old, new = TantivyKeywords(folder), TantivyKeywords(tmp_path / "new")
    assert old.match("столицы", 10).ids == (1,)
    new.add(np.array([3, 4]), ["столице", "погода"])
    assert set(match([old, new], "столицы ducks", 10)[0].ids) == {1, 2, 3}
    old.add(np.array([5]), ["Столицы running"])
    assert set(old.match("столицы", 10).ids) == {1, 5}
    assert old.match("runs", 10).ids == (5,)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two segments of 500 texts that share few words, and the formula over all of them."""
    chance = np.random.default_rng(5)
    words_of = [f"word{n}" for n in range(40)]
    shares = 1 / np.arange(1, 41)
    texts = [
        " ".join(chance.choice(words_of, size=int(chance.integers(3, 30)), p=shares / shares.sum()))
        for _ in range(1000)
    ]
    ids = np.arange(1, 1001)
    oracle = NaiveKeywords()
    oracle.add(ids, texts)
    halves = []
    for at in (0, 500):
        half = TantivyKeywords(tmp_path_factory.mktemp("half") / "k")
        half.add(ids[at : at + 500], texts[at : at + 500])
        halves.append(half)
    whole = TantivyKeywords(tmp_path_factory.mktemp("whole") / "k")
    whole.add(ids, texts)
    return whole, halves, oracle


@settings(max_examples=60, deadline=None)
@given(
    share=st.sampled_from([0.001, 0.01, 0.1, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 2**32 - 1),
    question=st.lists(st.integers(0, 45), min_size=1, max_size=5),
    top=st.sampled_from([1, 10, 200]),
)
def test_a_filtered_match_is_the_formula_over_what_is_allowed(many, share, seed, question, top):
    whole, halves, oracle = many
    chance = np.random.default_rng(seed)
    allowed = np.sort(chance.choice(np.arange(1, 1001), size=max(1, int(1000 * share)), replace=False))
    hidden = np.sort(chance.choice(np.arange(1, 1001), size=int(chance.integers(0, 300)), replace=False))
    query = " ".join(f"word{n}" for n in question)
    expected = oracle.match(query, 1000, allowed=set(allowed.tolist()) - set(hidden.tolist()))
    scores = dict(zip(expected.ids, expected.scores, strict=True))
    for found in (whole.match(query, top, hidden, allowed), match(halves, query, top, hidden, allowed)[0]):
        assert len(found.ids) == min(top, len(expected.ids))
        assert set(found.ids) <= set(expected.ids)
        if found.ids:  # halves know their own average length only, so the order is judged by `whole`
            assert found.ids == tuple(
                sorted(found.ids, key=lambda row: (-found.scores[found.ids.index(row)], row))
            )
    whole_found = whole.match(query, top, hidden, allowed)
    assert [scores[row] for row in whole_found.ids] == pytest.approx(expected.scores[:top], rel=1e-4)


@given(text=st.text("aZ_9 .-'\n\x00\x7f", max_size=20))
def test_plain_texts_have_the_words_that_they_have_beside_others(text):
    assert [*words(text), "é"] == words(f"{text} é")
