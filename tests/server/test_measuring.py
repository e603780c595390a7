"""`fewshot evaluate` against a real server: figures, comparisons, calibrators, what it refuses."""

import json
import time

import httpx
import pytest
from click.testing import CliRunner

from prompts.calibrator import read
from server.cli import main
from tests.server.test_classify import Spelling

LETTERS = {"ABBR": "a", "DESC": "d", "ENTY": "e", "HUM": "h", "LOC": "l", "NUM": "n"}


@pytest.fixture
def spelling(serve):
    """Says the label whose first letter is the most frequent, and N too often."""

    async def opened():
        return Spelling(reply="Cats sleep for thirteen hours a day [1].")

    with serve(open_decoder=opened) as running:
        while httpx.get(f"{running.url}/ready").status_code != 200:
            time.sleep(0.05)
        yield running


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def call(running, *arguments):
    done = CliRunner().invoke(main, ["evaluate", *arguments, "--url", running.url, "--json"])
    if done.exit_code not in (0, 1):
        raise AssertionError(done.output)
    return done


@pytest.fixture
def kinds(tmp_path):
    """96 texts; the weak ones are lost to N unless that is calibrated away."""
    rows = [
        {"id": str(at), "text": LETTERS[label] * (4 + at % 4) + f" {at}", "label_name": label}
        for at in range(16)
        for label in LETTERS
    ]
    return written(tmp_path / "kinds.jsonl", rows)


def test_arms_of_labels_are_measured_and_compared(spelling, kinds, tmp_path):
    done = call(
        spelling,
        *("labels", kinds, "--template", "question-type", "--demos", "0"),
        *(
            "--arm",
            "raw: calibrate=none",
            "--arm",
            "batch: calibrate=batch",
            "--arm",
            "whole: scoring=sequence",
        ),
        *("--write", str(tmp_path / "kept"), "--save", str(tmp_path / "said.jsonl")),
    )
    report = json.loads(done.stdout)
    raw, batch, _ = report["arms"]
    assert (report["items"], raw["template"], done.exit_code) == (96, "question-type@1", 0)
    assert batch["accuracy"]["mean"] == 1.0
    assert raw["accuracy"]["mean"] < 0.9
    first, second = report["against_first"]
    assert (first["arm"], first["against"], first["proven"]) == ("batch", "raw", "better")
    assert first["only_that_right"] == 0
    assert first["difference"]["mean"] == pytest.approx(1 - raw["accuracy"]["mean"])
    assert first["p"] <= first["p_holm"]
    assert second["arm"] == "whole"
    assert batch["calibration_error"]["with_temperature"] < raw["calibration_error"]["raw"]
    assert raw["prompt_tokens"] > 0
    kept = read(next((tmp_path / "kept").glob("*.json")))
    assert (kept.of.template, kept.of.demos, kept.items) == ("question-type@1", 0, 96)
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert len(said) == 3 * 96
    assert sum(row["right"] for row in said if row["arm"] == "raw") == round(96 * raw["accuracy"]["mean"])


def test_the_calibrator_that_is_kept_serves(serve, kinds, tmp_path):
    from prompts.calibrator import read_all

    async def opened():
        return Spelling()

    options = ["labels", kinds, "--template", "question-type", "--demos", "0"]
    with serve(open_decoder=opened) as running:
        while httpx.get(f"{running.url}/ready").status_code != 200:
            time.sleep(0.05)
        report = json.loads(call(running, *options, "--write", str(tmp_path / "kept")).stdout)
    assert len(report["calibrators"]) == 1
    with serve(open_decoder=opened, calibrators=read_all(tmp_path / "kept")) as running:
        while httpx.get(f"{running.url}/ready").status_code != 200:
            time.sleep(0.05)
        again = json.loads(call(running, *options).stdout)["arms"][0]
    assert again["accuracy"]["mean"] == 1.0
    assert report["arms"][0]["accuracy"]["mean"] < 0.9


def test_answers_are_measured_with_their_citations_and_cost(spelling, tmp_path):
    data = written(
        tmp_path / "qa.jsonl",
        [
            {
                "id": "1",
                "question": "How long do cats sleep?",
                "answers": ["thirteen hours"],
                "sources": ["cats"],
            },
            {
                "id": "2",
                "question": "When do cats hunt at dusk?",
                "answer": "Cats sleep for thirteen hours a day",
                "doc_ids": ["tea"],
            },
        ],
    )
    done = call(
        spelling,
        *("answers", data, "--arm", "plain:", "--arm", "grounded: stores=facts top=1 template=grounded"),
    )
    report = json.loads(done.stdout)
    plain, grounded = report["arms"]
    assert plain["exact_match"]["mean"] == grounded["exact_match"]["mean"] == 0.5
    assert plain["f1"]["mean"] == pytest.approx((1 + 2 * 2 / (7 + 2)) / 2, abs=0.05)
    assert (plain["citations"], plain["citation_precision"]) == (0, None)
    assert grounded["citations"] == 2
    assert grounded["citation_precision"]["mean"] == 0.5
    assert grounded["prompt_tokens"] > plain["prompt_tokens"] > 0
    (against,) = report["against_first"]
    assert (against["p"], against["proven"], against["f1_difference"]["mean"]) == (1.0, "no", 0.0)
    assert (against["f1_p"], against["f1_p_holm"], against["f1_proven"]) == (1.0, 1.0, "no")


def test_people_read_lines(spelling, kinds):
    done = CliRunner().invoke(
        main,
        ["evaluate", "labels", kinds, "--template", "question-type", "--items", "12", "--url", spelling.url],
    )
    assert done.exit_code == 0
    assert "kinds.jsonl: 12 items" in done.stdout
    assert "accuracy" in done.stdout
    assert "prompt tokens" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--template", "nothing"], "no template"),
        (["--template", "few-shot"], "declares no labels"),
        ([], "--template"),
        (["--template", "question-type", "--arm", "x: colour=red"], "none of model="),
        (["--template", "question-type", "--arm", "x: demos=many"], "cannot be 'many'"),
        (["--template", "question-type", "--arm", "x:", "--arm", "x:"], "same name"),
        (["--template", "question-type", "--arm", "demos=4"], "must read like"),
        (["--template", "question-type", "--calibrate", "batch", "--items", "9"], "at least 64"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(spelling, kinds, arguments, says):
    done = CliRunner().invoke(main, ["evaluate", "labels", kinds, *arguments, "--url", spelling.url])
    assert done.exit_code in (1, 2)
    assert says in done.output


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "JSON object"),
        ('{"text": "x"}', "label"),
        ('{"label": "x"}', "text"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    (tmp_path / "bad.jsonl").write_text(line + "\n")
    done = CliRunner().invoke(main, ["evaluate", "labels", str(tmp_path / "bad.jsonl"), "--template", "x"])
    assert done.exit_code == 1
    assert says in done.output
