"""tantivy against the formula."""

import numpy as np
import pytest

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
