"""The reward model learns what people preferred, is measured on questions it never saw, and reads back."""

import json
import random
from itertools import combinations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from server.adapters.manifest import read_manifest
from tests.training.conftest import BAD, GOOD, PLAIN
from training import reward_files
from training.commands import train
from training.errors import ArtefactRefused, DataRefused
from training.overlap import FEATURES, fitted, of_questions, overlap
from training.preferences import Question, dialogues, drawn_part, read_preferences
from training.reward import Compared, RewardLearner, margins, new_reward_model, rescale
from training.reward_report import Judged, baselines, binomial, by_question, flipped, numbered, summary, table

FAST = ["--rank", "4", "--learning-rate", "0.01", "--batch-tokens", "512"]


def comparisons(tmp_path, questions=60, seed=4):
    """Answers of three to six words; the one with more good words was preferred."""
    draw, rows = random.Random(seed), []
    for number in range(questions):
        prompt = f"{' '.join(draw.choices(PLAIN, k=3))} {number}"
        answers = [" ".join(draw.choices([*GOOD, *BAD], k=draw.randrange(3, 7))) for _ in range(4)]
        worth = {one: np.mean([word in GOOD for word in one.split()]) for one in answers}
        for a, b in combinations(worth, 2):
            if worth[a] != worth[b]:
                chosen, rejected = (a, b) if worth[a] > worth[b] else (b, a)
                rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def trained(bases, tmp_path, *more):
    given_ = [
        "reward",
        "--data",
        str(comparisons(tmp_path)),
        "--name",
        "taste",
        "--base",
        str(bases["decoder"]),
    ]
    return CliRunner().invoke(train, [*given_, "--out", str(tmp_path), *FAST, *more], catch_exceptions=False)


def test_it_learns_what_was_preferred_and_beats_length_on_unseen_questions(bases, tmp_path):
    found = trained(bases, tmp_path, "--epochs", "8", "--folds", "2", "--json")
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout)
    name, version = report["reference"].split("@")
    manifest = read_manifest((tmp_path / name / version / "manifest.json").read_bytes())
    assert (manifest.kind, manifest.version) == ("reward", version)
    test, folds = ({row["judge"]: row for row in report[key]["judges"]} for key in ("test", "folds"))
    assert test["reward"]["accuracy"][0] > 0.8
    assert test["reward"]["p_chance_by_question"] < 0.01
    assert test["length"]["p_by_question"] < 0.05
    assert test["length"]["gain"][1] > 0
    everything = read_preferences(tmp_path / "pairs.jsonl").everything
    assert folds["reward"]["comparisons"] == sum(len(one.pairs) for one in everything)
    assert folds["reward"]["accuracy"][0] > 0.75


def test_what_is_written_is_what_was_trained_and_fits_its_base_only(bases, tmp_path):
    found = trained(bases, tmp_path, "--epochs", "2", "--counting")
    assert "| length |" in found.stdout
    folder = tmp_path / "taste" / found.stdout.strip().splitlines()[-1].split("@")[1]
    model = reward_files.read(folder, bases["decoder"], "cpu")
    from training.reward_fitting import compared

    parts = read_preferences(tmp_path / "pairs.jsonl")
    _, rows, _ = compared(parts.test, model, 100, tmp_path)
    report = json.loads((folder / "report.json").read_text())
    assert float((margins(model, rows) > 0).mean()) == report["test"]["judges"][-1]["accuracy"][0]
    _, rows, _ = compared(parts.train, model, 100, tmp_path)
    whole = [row.prompt + answer for row in rows for answer in row.answers]
    rewards = model.rewards(whole, np.concatenate([row.features for row in rows]))
    assert float(rewards.mean()) == pytest.approx(0, abs=1e-4)
    assert float(rewards.std()) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ArtefactRefused, match="was trained on decoder, not on encoder"):
        reward_files.read(folder, bases["encoder"], "cpu")
    (folder / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(ArtefactRefused, match=r"adapter_model\.bin does not belong"):
        reward_files.read(folder, bases["decoder"], "cpu")
    (folder / "adapter_model.bin").unlink()
    (folder / "reward.json").write_text("{}")
    with pytest.raises(ArtefactRefused, match=r"reward\.json lacks 'counting': train it anew"):
        reward_files.read(folder, bases["decoder"], "cpu")
    with pytest.raises(ArtefactRefused, match="is no reward model: make one"):
        reward_files.read(tmp_path, bases["decoder"], "cpu")


def test_counting_alone_is_the_fit_of_counted_words(bases, tmp_path):
    found = trained(bases, tmp_path, "--words-only", "--folds", "3", "--json")
    report = json.loads(found.stdout)
    for part in ("test", "folds"):
        judges = {row["judge"]: row["right"] for row in report[part]["judges"]}
        assert judges["reward"] == judges["overlap"]
    folder = tmp_path / "taste" / report["reference"].split("@")[1]
    assert {one.name for one in folder.iterdir()} == {"reward.json", "report.json", "manifest.json"}
    model = reward_files.read(folder, bases["decoder"], "cpu")
    from training.reward_fitting import compared

    _, rows, _ = compared(read_preferences(tmp_path / "pairs.jsonl").test, model, 100, tmp_path)
    assert int((margins(model, rows) > 0).sum()) == report["test"]["judges"][-1]["right"]
    assert read_manifest((folder / "manifest.json").read_bytes()).kind == "reward"


def test_padding_changes_no_reward_and_the_loss_is_bradley_terrys(bases):
    """The padded batch against rows alone; the loss by hand."""
    model = new_reward_model(bases["decoder"], "cpu", rank=2, seed=1, counting=False)
    torch.nn.init.normal_(model.network.base_model.model.score.modules_to_save["default"].weight)
    row = Compared((9, 10, 11), ((12, 2), (13, 14, 15, 16, 2), (17, 2)), ((0, 1), (2, 0)), np.zeros((3, 6)))
    whole = [row.prompt + answer for answer in row.answers]
    alone = [float(model.rewards([one], np.zeros((1, 6)))[0]) for one in whole]
    assert model.rewards(whole, np.zeros((3, 6))).tolist() == pytest.approx(alone, abs=1e-5)
    loss = float(RewardLearner(model, [row], [row]).loss([0]).detach())
    ahead = np.array([alone[0] - alone[1], alone[2] - alone[0]])
    together = np.array([alone[0] + alone[1], alone[2] + alone[0]])
    assert loss == pytest.approx(np.log1p(np.exp(-ahead)).mean() + 0.01 * (together**2).mean(), abs=1e-5)
    rescale(model, [row])
    assert float(model.rewards(whole, np.zeros((3, 6))).mean()) == pytest.approx(0, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=60))
def test_a_report_is_of_the_comparisons_it_was_given(rows):
    right = {"length": np.array([row[0] for row in rows]), "reward": np.array([row[1] for row in rows])}
    places = np.unique([row[2] for row in rows], return_inverse=True)[1]
    content = summary(Judged(places, right))
    length, reward = content["judges"]
    assert reward["accuracy"][0] == pytest.approx(right["reward"].mean())
    assert length["gain"][0] == pytest.approx(right["reward"].mean() - right["length"].mean())
    assert length["gain"][1] <= length["gain"][0] + 1e-9 <= length["gain"][2] + 2e-9
    assert f"{len(rows)} comparisons" in table("Test", content)


def test_p_values_are_exact_or_close_to_it():
    assert binomial(8, 10) == pytest.approx(2 * (45 + 10 + 1) / 1024)
    values = np.array([1.0, 1, 1, 1, 1, 1])
    assert flipped(values, np.arange(6)) == pytest.approx(2 / 64, abs=0.01)
    one_question = flipped(values, np.zeros(6, dtype=int))
    assert one_question == 1.0  # six answers of one question are one piece of evidence
    assert by_question(values, np.arange(6)) == (1, 1, 1)


def test_the_baselines_know_length_and_wording():
    def question(id, answers, pairs):
        return Question(id, "the cat sat on the mat", answers, pairs, None)

    learned = [question("a", ("the cat sat on", "a dog", "b"), ((0, 1), (0, 2), (1, 2)))] * 4
    unseen = [question("b", ("sat on the mat", "no", "who knows what it is"), ((0, 1), (0, 2)))]
    found = baselines(learned, unseen)
    assert found["length"].tolist() == [True, False]
    assert found["overlap"].tolist() == [True, True]
    assert numbered(unseen).tolist() == [0, 0]
    told = overlap("the cat sat", "the cat ran the cat ran")
    assert dict(zip(FEATURES, told, strict=True)) == pytest.approx(
        {
            "log words": np.log(7), "words found": 4 / 6, "pairs found": 2 / 5, "triples found": 0,
            "words not found": np.log(3), "repeated triples": 1 / 4,
        }
    )  # fmt: skip
    assert fitted(of_questions(learned), learned)[0] > 0


def test_a_pack_is_read_with_its_sources_and_no_question_stands_in_two_parts(tmp_path):
    questions = [
        {
            "id": f"q{at}", "question": f"Why {at}?", "gold": f"Because {at}. ",
            "passages": [{"title": "T", "text": f"text {at}"}],
        }
        for at in range(40)
    ]  # fmt: skip
    rows = [
        {"qid": f"q{at}", "question": f"Why {at}?", "chosen": f"yes {at}", "rejected": word}
        for at in range(40)
        for word in ("no", "never")
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_preferences(tmp_path)
    ids = [{one.id for one in part} for part in found[:3]]
    assert sum(map(len, ids)) == len(set.union(*ids))
    assert set.union(*ids) == {f"q{at}" for at in range(40)}
    assert all(drawn_part(id) == "test" for id in ids[2])
    one = found.train[0]
    number = one.id.removeprefix("q")
    assert one.prompt[0]["content"].endswith(f"[1] T\ntext {number}\n\nQuestion: Why {number}?")
    assert (one.reference, one.pairs) == (f"Because {number}.", ((0, 1), (0, 2)))
    assert dialogues(found, ("completion",)).train[0].answers == (f"Because {number}.",)
    assert dialogues(found, ("chosen", "rejected")).train[0].answers == (f"yes {number}", "no")
    assert len(dialogues(found, ("chosen", "rejected")).train) == 2 * len(found.train)


def test_ties_of_pandalm_are_left_out_and_messages_are_prompts(tmp_path):
    base = {"instruction": "Do", "input": "it", "response1": "a", "response2": "b"}
    rows = [base | {"input": f"it {at}", "majority": [0, 1, 2, None][at % 4]} for at in range(80)]
    path = tmp_path / "rows.jsonl"
    rows += [base | {"input": "said nothing", "majority": 2, "response1": " "}]
    rows += [base | {"input": "yes", "majority": 1, "response1": True}]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_preferences(path).everything
    assert [one.answers for one in found if one.prompt[0]["content"] == "Do\n\nyes"] == [("true", "b")]
    found = tuple(one for one in found if one.prompt[0]["content"] != "Do\n\nyes")
    assert len(found) == 40
    assert {one.answers for one in found} == {("a", "b"), ("b", "a")}
    assert found[0].prompt[0]["content"].startswith("Do\n\nit ")
    said = [{"role": "user", "content": "hello"}]
    rows = [{"messages": said, "prompt": "flat", "chosen": "x", "rejected": "y", "split": "train"}]
    rows += [
        {"prompt": f"p {part}", "chosen": "x", "rejected": "y", "split": part} for part in ("valid", "test")
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_preferences(path).train[0].prompt == said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "a", "chosen": "x", "rejected": "x"}], "line 1: chosen and rejected are the same"),
        ([{"prompt": "a", "chosen": "x"}], 'line 1: "rejected" must be text'),
        ([{"prompt": "a", "chosen": "x", "rejected": "y", "split": "dev"}], "split is 'dev', not one of"),
        ([{"prompt": "a", "chosen": "x", "rejected": "y"}], "has no question for the .* part"),
    ],
)  # fmt: skip
def test_comparisons_that_teach_nothing_are_refused(tmp_path, rows, said):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataRefused, match=said):
        read_preferences(path)
