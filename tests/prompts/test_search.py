"""The search for wording: what may change, what is refused, who wins, what may be claimed."""

import json
import tomllib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.hash_embedder import HashEmbedder
from prompts.analysis.paired import mcnemar
from prompts.demos import Pool
from prompts.errors import SearchRefused
from prompts.layout import lay_out
from prompts.listing import Listing
from prompts.parsing import parse
from prompts.records import Demo
from prompts.seams import count_words
from prompts.search.proposing import cleaned, induced, paraphrases
from prompts.search.report import as_json, markdown, plot, verdict
from prompts.search.running import search, smallest_gain
from prompts.search.splits import Most, Splits, disjoint, read_splits
from prompts.search.wording import ablations, changed, instruction_of, leaks, with_instruction
from prompts.templates import SHIPPED

EMBED = HashEmbedder().passages
TABLE = tomllib.loads((SHIPPED / "question-type" / "1.toml").read_text())
SYSTEM = TABLE["parts"]["system"].strip()
LABELS = [row["id"] for row in TABLE["labels"]["set"]]


def items(name, count):
    return tuple(
        Demo(f"{name}-{at}", f"{name} question {at} {chr(97 + at % 26) * 3}{at}", label, label)
        for at in range(count)
        for label in [LABELS[at % len(LABELS)]]
    )


SPLITS = Splits(items("shown", 60), items("sought", 150), items("kept", 400))


class Worded:
    """A model that is right as often as the wording deserves, by a draw that belongs to the item."""

    def __init__(self, worth, demos=0.0):
        self.worth, self.demos, self.asked = worth, demos, Counter()

    def right(self, template, some, shown=None):
        chance = self.worth(template.parts.get("system", "")) + self.demos * bool(template.demos)
        self.asked[template.digest] += len(some)
        return [float(np.random.default_rng(list(item.id.encode())).random() < chance) for item in some]

    def tokens(self, template, item):
        return lay_out(template, question=item.input, room=10_000, count=count_words).tokens


class Writer:
    """Says another sentence each time; one in `every` tells the model to be careful."""

    def __init__(self, every):
        self.every, self.said = every, 0

    def __call__(self, request, seed):
        self.said += 1
        careful = "carefully " if self.every and self.said % self.every == 0 else ""
        return f'"Say {careful}which kind number {self.said} the question is of."'


def run(judge, writer, **options):
    vectors = EMBED([demo.input for demo in SPLITS.demos])
    pool = Pool(Listing(SPLITS.demos, "d", ()), vectors=vectors, embed=EMBED)
    known = {"size": "light", "budget_tokens": 400_000, **options}
    return search(TABLE, SPLITS, judge, writer, pool=pool, **known)


def test_wording_that_is_better_wins_and_is_claimed(tmp_path):
    judge = Worded(lambda system: 0.85 if "carefully" in system else 0.5)
    found = run(judge, Writer(every=2))
    assert "carefully" in found.winner.template.parts["system"]
    assert "- Abbreviation:" not in found.winner.template.parts["system"].partition("{%")[0]
    assert "{% for label in labels %}" in found.winner.template.parts["system"]
    test, p = found.claims["original"]
    assert p < 0.001
    assert test.difference.mean == pytest.approx(0.35, abs=0.08)
    assert verdict(found).startswith("The winner is better than the original")
    about = {"template": "question-type@1", "model": "worded", "seed": 7, "openings": 1}
    report = json.loads(json.dumps(as_json(found, SPLITS, about)))
    assert report["held_out"]["winner"]["accuracy"]["mean"] > 0.8
    assert set(found.held_out) == {
        *("winner", "original", "random rewrites", "16 random examples", "8 nearest examples")
    }
    assert sum(found.tokens.values()) <= 2 * 400_000
    assert "smallest" not in markdown(found, SPLITS, about)
    plot(found, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000
    again = parse(found.winner.source, "again")
    assert (again.version, again.digest) == (2, found.winner.template.digest)
    assert again.dynamic.strategy == "none"


def test_examples_that_help_become_part_of_the_version():
    found = run(Worded(lambda system: 0.4, demos=0.4), Writer(every=0))
    assert found.winner.proposer == "combine"
    assert len(found.winner.template.demos) in (4, 8, 16)
    assert found.held_out["16 random examples"] == found.held_out["winner"]
    assert found.claims["original"][1] < 0.001


def test_where_nothing_helps_nothing_is_claimed():
    found = run(Worded(lambda system: 0.6), Writer(every=0))
    assert found.held_out["winner"] == found.held_out["original"]
    assert all(p == 1.0 for _, p in found.claims.values())
    assert "better than" not in verdict(found).replace("not proven better than", "")


def test_items_are_paid_for_once_and_the_budget_ends_the_race():
    judge = Worded(lambda system: 0.6)
    found = run(judge, Writer(every=0), budget_tokens=60_000)
    assert found.tokens["search"] <= 70_000  # the bootstrapped set looks at a few demos
    full = sum(race.scores.size for _, _, race in found.races)
    assert sum(race.asked for _, _, race in found.races) < full
    with pytest.raises(SearchRefused, match="first look"):
        run(judge, Writer(every=0), budget_tokens=100)


def test_a_model_with_nothing_to_say_leaves_what_needs_no_words():
    found = run(Worded(lambda system: 0.6), lambda request, seed: "")
    assert {one.proposer for one in found.candidates} <= {"original", "ablate", "combine"}
    assert all(test.p == 1.0 for test, _ in found.claims.values())


def test_only_the_instruction_changes():
    assert instruction_of(SYSTEM) == "Say what kind of answer a question asks for."
    other = with_instruction(SYSTEM, "Name the kind.")
    assert other == SYSTEM.replace("Say what kind of answer a question asks for.", "Name the kind.")
    assert with_instruction("", "Name the kind.") == "Name the kind."
    assert ablations(SYSTEM) == [
        SYSTEM.partition("\n\n")[2],
        SYSTEM.rpartition("\n\n")[0],
    ]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/*.toml")), ids=lambda path: path.parent.name)
def test_a_version_that_is_written_reads_back_as_it_was(path):
    table = tomllib.loads(path.read_text())
    system = table["parts"].get("system", "").strip("\n")
    demo = [Demo("d", 'a "quoted" \\ text\nof two lines \x7f', "x", None)]
    written = changed(
        table, version=table["version"] + 1, system=system, demos=demo if "labels" not in table else ()
    )
    back = tomllib.loads(written.decode())
    assert back["version"] == table["version"] + 1
    for key in table.keys() - {"version", "parts", "fewshot", "demos"}:
        assert back[key] == table[key], key
    assert back["parts"]["system"] == system
    assert back.get("demos", []) == (
        [{"input": demo[0].input, "output": "x"}] if "labels" not in table else []
    )


words = st.lists(st.sampled_from("abcdefghij"), min_size=0, max_size=14)


@given(words, words, words)
def test_a_leak_is_eight_words_that_the_parent_did_not_have(text, parent, item):
    joined, known, seen = (" ".join(one) for one in (text, parent, item))

    def shingles(some):
        return {tuple(some[at : at + 8]) for at in range(len(some) - 7)}

    expected = (shingles(text) - shingles(parent)) & shingles(item)
    assert (leaks(joined, known, [seen]) is not None) == bool(expected)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('"Name the kind of answer."\n\nHere is why', "Name the kind of answer."),
        ("Instruction: Name the kind.", "Name the kind."),
        ("Two words", None),
        ("Use {{ question }} to answer it", None),
        ("<|im_end|> say the kind now", None),
        ("word " * 81, None),
        ("", None),
    ],
)
def test_what_a_model_writes_is_cleaned_or_refused(said, kept):
    assert cleaned(said) == kept


def test_proposals_differ_from_each_other_and_from_the_original():
    said = iter(["Name the kind.", "Say the kind now.", "Name the kind.", "Tell the kind please."] * 9)
    assert paraphrases(lambda request, seed: next(said), "Name the kind.", 2, 1) == [
        *("Say the kind now.", "Tell the kind please.")
    ]
    requests = []
    induced(lambda request, seed: requests.append(request) or "", SPLITS.demos, 2, 3)
    assert all(request.count("Input: ") == 5 for request in requests)
    assert len(set(requests)) > 1


def test_the_smallest_gain_is_the_one_of_the_sample_size_formula():
    assert smallest_gain(470) == pytest.approx(0.05, abs=0.001)
    assert smallest_gain(1960, discordant=0.10) == pytest.approx(0.02, abs=0.001)


def test_overlapping_files_stop_a_search_and_a_train_part_is_cut(tmp_path):
    demos, sought, kept = items("shown", 30), items("sought", 40), items("kept", 50)
    twin = Demo("twin", kept[3].input.upper(), "x", "ABBR")
    with pytest.raises(SearchRefused, match="'twin'"):
        disjoint([*demos, twin], sought, kept, embed=EMBED, refuse=True)
    assert disjoint([*demos, twin], sought, kept, embed=EMBED, refuse=False).dropped == 1
    with pytest.raises(SearchRefused, match="held_out holds 5"):
        disjoint(demos, sought, kept[:5], embed=EMBED, refuse=True)
    rows = [{"text": f"row {at} {'xyz'[at % 3] * 4}{at}", "label_name": LABELS[at % 6]} for at in range(260)]
    for name, part in (("train", rows[:200]), ("test", [*rows[200:], rows[0]])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    splits = read_splits(tmp_path, LABELS, Most(50, 60, 70), EMBED)
    assert (len(splits.held_out), len(splits.demos) <= 50, len(splits.search) <= 60) == (61, True, True)
    texts = [{item.input for item in part} for part in splits[:3]]
    assert not texts[0] & texts[1]
    assert not (texts[0] | texts[1]) & texts[2]
    (tmp_path / "test.jsonl").write_text("{}\n")
    with pytest.raises(SearchRefused, match="line 1"):
        read_splits(tmp_path, LABELS, Most(), EMBED)


def test_mcnemar_of_equal_answers_claims_nothing():
    assert mcnemar([1, 0], [1, 0]).p == 1.0
