"""`make loop`, walked: real commands, a real server, real training; without a model where seconds count."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from deploy.loop_users import DataRefused, part, read_cases
from prompts.listing import same_text
from tests.server.adapters.reference import write_llama

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "deploy" / "loop_data" / "feedback.jsonl"


@pytest.fixture
def small(tmp_path):
    """A tiny base to train, thirty questions, and how the walk is called with them."""
    write_llama(tmp_path / "tiny")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:30]))
    work = tmp_path / "work"

    def walk(*more):
        env = {"FEWSHOT_ENGINE_MODEL": str(tmp_path / "tiny"), "FEWSHOT_EMBEDDER": "hash"}
        given = ["--echo", "--data", str(data), "--users", "100", "--epochs", "1", "--window-seconds", "20"]
        return walked(work, *given, *more, **env)

    return work, walk


def walked(work, *arguments, **env):
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.loop", "--work", str(work), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate()
    finally:
        if process.poll() is None:  # the test ran out of time: its server and commands go with it
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, said[-5_000:]
    return str(said)


def rows_of(work, query):
    engine = create_engine(f"sqlite:///{work}/data/journal.db")
    try:
        with engine.connect() as connection:
            return connection.execute(text(query)).all()
    finally:
        engine.dispose()


@pytest.mark.timeout(900)
def test_the_walk_goes_from_feedback_to_loaded_adapters_and_stops_where_the_gate_says_no(small):
    work, walk = small
    said = walk()
    assert "Verdict: no. On 7 questions" in said
    given = rows_of(work, "select metric, count(*) from feedback group by metric")
    assert dict(given) == {"thumb": 15, "correction": 15}
    pairs = [json.loads(line) for line in (work / "pairs.jsonl").read_text().splitlines()]
    assert {row["from"] for row in pairs} == {"correction"}
    judged = {
        same_text(json.loads(line)["question"]) for line in (work / "judged.jsonl").read_text().splitlines()
    }
    assert judged.isdisjoint(same_text(row["prompt"][-1]["content"]) for row in pairs)
    loads = rows_of(work, "select count(*) from adapter_steps where action = 'load'")
    assert loads == [(2,)]
    gate = json.loads((work / "gate.json").read_text())
    assert [row["f1_proven"] for row in gate["against_first"]] == ["worse", "worse"]  # a marked echo
    assert not rows_of(work, "select * from definitions")


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_told_to_go_on_the_walk_serves_an_arm_and_promotes_it_by_force_and_the_log_says_so(small):
    work, walk = small
    said = walk("--anyway")
    assert "ramp = 0.1" in said
    assert "ramp = 1" in said
    assert "is not promoted: wait for a winner" in said
    assert "answers everybody by force" in said
    assert rows_of(work, "select after, forced from decisions where action = 'promote'") == [
        ("loop/adapter", 1)
    ]
    counted = "select arm, count(distinct unit) from exposures where experiment = 'loop' group by arm"
    served = dict(rows_of(work, counted))
    assert served["adapter"] + served["base"] == 200
    assert 70 < served["adapter"] < 130


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_walk_on_the_default_model_ends_with_a_verdict(tmp_path):
    """Minutes on a quiet machine: the sample, SmolLM2-135M-Instruct, both trainings."""
    said = walked(tmp_path / "work", "--users", "100", "--epochs", "2", "--max-tokens", "48")
    assert "60 of 60 answers were corrected" in said
    assert "loaded loop-dpo@" in said
    assert "loaded loop-soft@" in said
    assert "Verdict: no." in said or "Verdict: yes." in said
    gate = json.loads((tmp_path / "work" / "gate.json").read_text())
    assert gate["items"] == 30
    assert all(one["failed"] == 0 for one in gate["arms"])


def test_the_sample_is_parted_without_a_question_in_two_parts():
    parts = part(read_cases(SAMPLE))
    assert [len(one) for one in parts] == [60, 30, 30]
    questions = [same_text(case.question) for some in parts for case in some]
    assert len(set(questions)) == len(questions)
    assert parts == part(list(reversed(read_cases(SAMPLE))))


def test_rows_of_one_question_count_together_and_empty_corrections_are_left_out(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"question": f"Number {at}?", "chosen": f"It is {at}."} for at in range(30)]
    rows += [{"question": "number 3", "chosen": "Three."}, {"question": "Another?", "corrected": ""}]
    path.write_text("\n".join(map(json.dumps, rows)))
    cases = {case.question: case for case in read_cases(path)}
    assert len(cases) == 30
    assert cases["Number 3?"].answers == ("It is 3.", "Three.")
    assert cases["Number 3?"].correction == "It is 3."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "leave DATA out for the sample"),
        ("{", "line 1: not JSON"),
        ('{"question": "a"}', "line 1: needs a question and one of correction, corrected, chosen"),
        ('{"question": "a", "chosen": "b", "answers": 3}', "line 1: needs"),
        ('{"question": "a", "chosen": "b"}', "has 1 questions; 30 are the least"),
    ],
)
def test_data_that_cannot_be_walked_with_is_refused_with_the_way_out(tmp_path, content, said):
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataRefused, match=said):
        read_cases(path)
