"""The embedder learns which passage answers; what it is measured by is the usual nDCG."""

import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

from tests.training.conftest import BAD, GOOD, PLAIN
from training.backbone import Backbone
from training.commands import train
from training.errors import BaseRefused, DataRefused
from training.retriever import Judged, check_embedder, embedded, mined, ndcg, read_judgements


@pytest.fixture
def judged(tmp_path):
    """Every passage is about one word pair; the question names the first, the passage the second."""
    draw = random.Random(6)
    words = [*GOOD, *BAD]
    passages = [
        {
            "id": f"p{at}",
            "title": "",
            "text": " ".join([words[(at + 1) % len(words)], *draw.choices(PLAIN, k=3)]),
        }
        for at in range(len(words) * 4)
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, passages)) + "\n")
    for prefix, count in (("train_", 96), ("", 24)):
        asked, relevant = [], ["query-id\tcorpus-id\tscore"]
        for at in range(count):
            about = at % len(words)
            asked.append({"id": f"q{at}", "text": " ".join([words[about], *draw.choices(PLAIN, k=2)])})
            relevant += [f"q{at}\tp{about + len(words) * copy}\t1" for copy in range(4)]
        (tmp_path / f"{prefix}queries.jsonl").write_text("\n".join(map(json.dumps, asked)) + "\n")
        (tmp_path / f"{prefix}qrels.tsv").write_text("\n".join(relevant) + "\n")
    return tmp_path


def test_it_learns_writes_a_folder_like_the_base_and_says_what_it_gained(bases, judged, tmp_path):
    out = tmp_path / "tuned"
    given = ["retriever", str(judged), "--out", str(out), "--base", str(bases["encoder"]), "--epochs", "6"]
    found = CliRunner().invoke(train, [*given, "--learning-rate", "0.003"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    note = json.loads((out / "origin.json").read_text())["ndcg_at_10"]
    assert note["after"] > note["before"] + 0.2
    assert f"{note['before']:.4f} → {note['after']:.4f}" in found.stdout
    assert (out / "config.json").read_bytes() == (bases["encoder"] / "config.json").read_bytes()
    judgements, tuned = read_judgements(judged), Backbone(out, "cpu")
    rows, asked = (tuned.encode(one, 64)[0] for one in (judgements.passages, judgements.test.questions))
    again = ndcg(judgements.test, embedded(tuned, asked), embedded(tuned, rows))
    assert again.mean() == pytest.approx(note["after"], abs=1e-4)
    second = CliRunner().invoke(train, given)
    assert "is there already: name a new folder" in second.output


def test_ndcg_of_hand_made_rankings():
    passages = np.eye(4, dtype=np.float32)
    part = Judged(("a", "b"), ({0: 1.0, 2: 1.0}, {3: 1.0}))
    asked = np.array([[0.9, 0.5, 0.1, 0.0], [0.9, 0.5, 0.3, 0.1]], dtype=np.float32)
    want = [(1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3)), 1 / np.log2(5)]
    assert ndcg(part, asked, passages) == pytest.approx(want)


def test_a_hard_negative_is_near_and_not_relevant():
    draw = np.random.default_rng(3)
    passages = draw.normal(size=(80, 8)).astype(np.float32)
    part = Judged(("q",), ({4: 1.0, 9: 2.0},))
    (first, second) = mined(part, passages[:1], passages, [[1, 2]], seed=1)
    assert {first[1], second[1]} == {4, 9}
    ranked = list(np.argsort(-(passages @ passages[0]), kind="stable"))
    assert all(5 <= ranked.index(one[2]) < 50 for one in (first, second))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train_qrels.tsv", "q0\tp0\tmany\n", "line 1: query-id, corpus-id and a number"),
        ("train_qrels.tsv", "q0\tnowhere\t1\n", "judges no question of train_queries.jsonl"),
        ("corpus.jsonl", '{"id": 1}\n', "line 1: an id and a text are needed"),
        ("queries.jsonl", "no\n", "line 1: not JSON"),
    ],
)
def test_judgements_that_are_none_are_refused_by_line(judged, name, content, said):
    (judged / name).write_text(content)
    with pytest.raises(DataRefused, match=said):
        read_judgements(judged)


def test_an_embedder_that_does_more_than_mean_pooling_is_refused(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": false}')
    with pytest.raises(BaseRefused, match="does not pool by the mean alone"):
        check_embedder(tmp_path)
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    with pytest.raises(BaseRefused, match="puts prompts before texts"):
        check_embedder(tmp_path)
