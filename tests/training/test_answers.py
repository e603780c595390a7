"""Rungs that answer: a batch says what each prompt alone would, and what is trained meets the best prompt."""

import itertools
import json
import random

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.conftest import BAD, GOOD
from training import cli
from training.adapting import adapted
from training.answer_data import read_questions, task_of
from training.answering import Asker, base_of, pool_of, prompted, template_of, tuned
from training.comparison import best_prompt, paired_p
from training.errors import DataRefused
from training.generation import greedy
from training.prompting import Shots
from training.recommendation import recommend
from training.records import Cost, Row, Run, Settings
from training.report import summary

FEW = ("zero-shot", "few-shot-*", "decoder/lora-r8", "decoder/soft-prompt")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """The answer is always the same word, which the base does not know and every method can learn."""
    folder, draw = tmp_path_factory.mktemp("questions"), random.Random(7)
    for part, count in (("train", 24), ("test", 12)):
        rows = [
            {
                "id": f"{part}-{at}",
                "question": " ".join(draw.choices(["film", "story", "actor", "scene", "the", "was"], k=6)),
                "context": " ".join(draw.choices([*GOOD[1:], *BAD, "and"], k=8)),
                "answers": ["good", "very good"],
            }
            for at in range(count)
        ]
        (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture(scope="module")
def climbed(bases, questions, tmp_path_factory):
    out = tmp_path_factory.mktemp("answers-ladder")
    given = [str(questions), "--out", str(out), "--seeds", "1", "--epochs", "0.2", "--shots", "2", "--json"]
    given += [part for base in bases.values() for part in ("--base", str(base))]
    given += [part for one in FEW for part in ("--rungs", one)]
    return out, *(CliRunner().invoke(cli.ladder, given, catch_exceptions=False) for _ in "ab")


def test_every_answering_rung_is_a_row_with_f1_exact_match_and_costs(climbed):
    _, first, second = climbed
    assert first.exit_code == 0, first.output
    content = json.loads(first.stdout)
    rows = {row["rung"]: row for row in content["rungs"]}
    assert {"zero-shot", "few-shot-random-2", "few-shot-nearest-2", *FEW[2:]} <= rows.keys()
    assert not [row for row in content["rungs"] if "failed" in row]
    for row in rows.values():
        assert row["interval"][0] <= row["f1"] <= row["interval"][1]
        assert row["exact_match"] <= row["f1"]
    assert rows["zero-shot"]["trainable"] == 0 < rows["decoder/soft-prompt"]["trainable"]
    assert rows["decoder/soft-prompt"]["added_tokens"] == 32
    assert rows["few-shot-nearest-2"]["added_tokens"] > 20
    assert 0 < rows["decoder/lora-r8"]["share"] < 1
    assert all("kept from before" in line for line in second.stderr.splitlines() if "seed" in line)


def test_what_was_trained_is_held_against_the_best_prompt(climbed):
    out, first, _ = climbed
    found = json.loads(first.stdout)["best_prompt"]
    assert found["rung"] in ("zero-shot", "few-shot-random-2", "few-shot-nearest-2")
    assert set(found["against"]) == set(FEW[2:])
    assert all(0 < one["p"] <= 1 for one in found["against"].values())
    table = (out / "ladder.md").read_text()
    assert "− best prompt" in table
    assert f"The best prompt, {found['rung']}, was chosen by F1 on validation" in table
    assert (out / "ladder.png").stat().st_size


def test_an_adapter_that_learned_the_answer_beats_the_prompt_and_the_report_says_so(bases, questions):
    split = read_questions(questions)
    model, tokenizer = base_of(bases["decoder"], "cpu")
    asker = Asker(tokenizer, 512, split, pool_of(split, None), None)
    form = template_of("plain")
    shown = prompted(model, asker, form, Shots("random", 2), rung="few-shot-random-2", seed=1)
    fast = Settings(learning_rate=0.02, epochs=12, batch_texts=8, weight_decay=0.0)
    learned = tuned(bases["decoder"], "cpu", asker, form, "lora", fast, {"rank": 4}, rung="decoder/lora-r4")
    assert learned.exact_match == 1.0 > shown.exact_match
    rows = [Row(rung=run.rung, runs=(run,)) for run in (shown, learned)]
    content = summary(rows, recommend(rows), split, {})
    against = content["best_prompt"]["against"]["decoder/lora-r4"]
    assert against["difference"].low > 0.3
    assert against["p"] < 0.01
    assert content["advice"]["rung"] == "decoder/lora-r4"


@pytest.mark.parametrize("method", ["none", "lora", "soft-prompt", "prefix"])
def test_a_batch_says_what_each_prompt_alone_would(bases, method):
    """The oracle: the whole row through the model at every step, nothing padded, nothing cached."""
    torch.manual_seed(5)
    if method == "none":
        model, _ = base_of(bases["decoder"], "cpu")
    else:
        model, _ = adapted(bases["decoder"], "cpu", method, rank=4, tokens=5, seed=1)
        with torch.no_grad():
            for one in model.parameters():
                if one.requires_grad:
                    one.normal_(std=0.3)
    draw = random.Random(2)
    rows = [[draw.randrange(3, 25) for _ in range(length)] for length in (1, 7, 19, 4)]
    alone = []
    for row in rows:
        ids = list(row)
        while len(ids) - len(row) < 6:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits
            if (token := int(logits[0, -1].argmax())) == 2:
                break
            ids.append(token)
        alone.append(ids[len(row) :])
    assert greedy(model, rows, most=6, ends={2}, pad_id=0) == alone
    assert len({tuple(one) for one in alone}) > 1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=8), st.randoms())
def test_p_is_the_share_of_all_signs_that_are_as_far_from_nothing(scores, draw):
    others = [draw.choice([0.0, 0.25, 1.0]) for _ in scores]
    difference = np.array(scores) - np.array(others)
    seen = abs(difference.sum())
    sums = [abs(difference @ signs) for signs in itertools.product((-1, 1), repeat=len(difference))]
    exact = float(np.mean([one >= seen - 1e-9 for one in sums]))
    assert paired_p([_run(scores)], [_run(others)]) == pytest.approx(exact, abs=0.02)
    assert paired_p([_run(scores)], [_run(others)]) == paired_p([_run(others)], [_run(scores)])


def test_the_best_prompt_is_chosen_on_validation_and_learns_nothing():
    better, worse = (
        Row(rung=name, runs=(_run([test] * 4, valid=valid),))
        for name, test, valid in (("a", 0.2, 0.9), ("b", 1.0, 0.1))
    )
    trained = Row(rung="c", runs=(_run([1.0] * 4, valid=1.0, trainable=9),))
    assert best_prompt([worse, better, trained]) is better
    assert best_prompt([trained, Row(rung="d", failed="no")]) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": " ", "answers": ["a"]}', 'line 1: "question" must be text'),
        ('{"question": "a", "answers": []}', 'line 1: "answers" must be a list'),
        ('{"question": "a", "answers": [3]}', 'line 1: "answers" must be text'),
        ('{"question": "a", "answer": "b", "context": 3}', 'line 1: "context" must be text'),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line, said):
    (tmp_path / "train.jsonl").write_text(line + "\n")
    with pytest.raises(DataRefused, match=said):
        read_questions(tmp_path)


def test_copies_leave_the_training_part_and_the_task_is_told_from_the_rows(tmp_path, reviews):
    row = {"question": "How many?", "answer": "two"}
    others = [{"question": f"Which is number {at}?", "answers": [str(at), "that"]} for at in range(10)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, [row, *others])))
    with pytest.raises(DataRefused, match=r"has no test\.jsonl"):
        read_questions(tmp_path)
    (tmp_path / "test.jsonl").write_text(json.dumps(row | {"question": "how many"}))
    split = read_questions(tmp_path)
    assert split.removed == 1
    assert len(split.valid) == 1
    assert len(split.train) == 9
    assert split.test[0].answers == ("two",)
    assert (task_of(tmp_path), task_of(reviews)) == ("answer", "classify")


def test_what_does_not_fit_answers_is_refused(bases, questions, tmp_path):
    given = [str(questions), "--out", str(tmp_path)]
    for more, said in (
        (["--base", str(bases["decoder"]), "--minutes", "5"], "--minutes cuts labelled texts only"),
        (["--base", str(bases["encoder"])], "answers are written by a decoder"),
        (["--base", str(bases["decoder"]), "--template", "sentiment"], "does not answer questions"),
        (["--base", str(bases["decoder"]), "--rungs", "*/features-lr"], "no rung is called"),
    ):
        found = CliRunner().invoke(cli.ladder, [*given, *more])
        assert found.exit_code == 1
        assert said in found.output


def _run(scores, valid=0.0, trainable=0):
    test = tuple(map(float, scores))
    return Run(
        rung="r", seed=1, valid=valid, test=test, f1=0.0, exact_match=0.0, cost=Cost(trainable=trainable)
    )
