"""Files come sorted by label: whatever takes a part of one must draw it, never take the head."""

from dataclasses import replace

import numpy as np

from training import pace
from training.data import read_split
from training.prompting import VALID_ITEMS, LabelScorer, Rows, asked
from training.records import Example
from training.rungs import rungs


def grouped(split, count):
    """So many texts of each label, one label after the other."""
    return tuple(
        Example(f"{label}-{at}", f"{split.train[at % 40].text} {at}", label)
        for label in range(len(split.labels))
        for at in range(count)
    )


def test_prompts_are_compared_on_every_label(bases, reviews):
    split = read_split(reviews)
    split = replace(split, valid=grouped(split, VALID_ITEMS), train=split.train[:60])
    places = np.arange(len(split.valid), dtype=np.float32)[:, None]
    marked = Rows(
        np.ones((len(split.train), 1), np.float32), places, np.ones((len(split.test), 1), np.float32)
    )
    given = asked(LabelScorer(bases["decoder"], "cpu"), split, marked)
    found = [one.label for one in given.split.valid]
    assert len(found) == len(given.valid) == VALID_ITEMS
    assert min(np.bincount(found)) > VALID_ITEMS / 3
    own = given.rows.valid[:, 0].astype(int)  # the vectors are those of the texts drawn
    assert [split.valid[at] for at in own] == list(given.split.valid)


def test_a_budget_keeps_every_label(reviews):
    split = read_split(reviews)
    split = replace(split, valid=grouped(split, 150), test=grouped(split, 450))
    paces = {"encoder": pace.Pace(tokens_per_second=2_000, tokens_per_text=100)}
    cut = pace.planned(split, rungs({"encoder": 4}, seeds=3), paces, 2.0, 30).cut(split)
    assert len(cut.test) < 900
    for part in (cut.valid, cut.test):
        assert min(np.bincount([one.label for one in part])) > len(part) / 3
