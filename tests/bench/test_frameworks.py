"""The comparison with frameworks: the same prompt, a process that answers or says why not, honest shares."""

import json
import sys

import pytest

from bench.frameworks import asking
from bench.frameworks.arms import driver
from bench.frameworks.asking import Framework
from bench.frameworks.command import overhead, plain, share
from bench.frameworks.environments import HERE, bare_environment
from bench.records import NotMeasured
from bench.rounds import Pair

ARM = """
from driver import drive
def build(job):
    def ask(text, vector):
        if job["fails"]:
            raise SystemExit("no such engine")
        return text.upper(), [str(number) for number in vector]
    return ask
drive(build)
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Starts a framework of a few lines, with the driver of the real ones."""
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "with_small.py").write_text(ARM)
    (tmp_path / "arms" / "driver.py").write_text((HERE / "arms" / "driver.py").read_text())
    monkeypatch.setattr(asking, "HERE", tmp_path)

    def start(fails: bool) -> Framework:
        questions = [{"text": "one", "vector": [1]}, {"text": "two", "vector": [2, 3]}]
        return Framework("small", sys.executable, {"fails": fails, "questions": questions})

    return start


def test_a_framework_answers_every_question_as_often_as_it_is_told(started):
    arm = started(fails=False)
    for _ in range(2):
        told = arm.ask()
        assert [(text, list(ids)) for text, ids in told.told] == [("ONE", ["1"]), ("TWO", ["2", "3"])]
        assert len(told.seconds) == 2
    arm.close()


def test_one_that_ends_says_why(started):
    with pytest.raises(NotMeasured, match="no such engine"):
        started(fails=True)


def test_the_bare_call_carries_the_prompt_of_the_frameworks():
    system, user = json.loads(plain("echo", "Why?", ["a", "b"]))["messages"]
    assert system["content"] == driver.SYSTEM
    context = driver.numbered(["a", "b"])
    assert user["content"] == driver.HUMAN.format(context=context, question="Why?")


def test_what_is_below_the_noise_of_the_bare_call_is_not_claimed():
    rounds = {
        "bare call": [Pair(1.0, 3.0)] * 3,
        "Fewshot": [Pair(2.0, 2.0)] * 3,
        "other": [Pair(6.0, 6.0)] * 3,
    }
    assert overhead(rounds, "other").value == pytest.approx(4.0)
    assert share(rounds, "other").value == pytest.approx(1.0 / 4.0)


def test_nothing_of_this_environment_reaches_theirs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/here")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert not {"PYTHONPATH", "OPENAI_API_KEY"} & set(bare_environment())


def test_every_framework_is_pinned_whole():
    for file in HERE.glob("*.txt"):
        lines = file.read_text().split()
        assert lines
        assert all(line.count("==") == 1 for line in lines)
