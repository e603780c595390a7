"""The report: one object, shown in words, as JSON and as a page."""

import json
import re

import pytest
from click.testing import CliRunner

from prompts.analysis.report import digest_of, report_of
from prompts.analysis.verdict import judge
from prompts.commands.experiment import experiment as commands
from prompts.errors import OutcomesInvalid
from prompts.outcome_files import header, parse_outcomes
from prompts.outcomes import units_of
from prompts.telling import told
from tests.prompts.analysis.logs import FILE, START, experiment_of, phases_of, turns

LATER = START + 1_000_000.0


@pytest.fixture(scope="module")
def rows():
    experiment = experiment_of()
    return turns(experiment, 1500, solved={"plain": 0.5, "shown": 0.7})


def report(rows, now=LATER):
    experiment = experiment_of()
    units = units_of(rows)
    return report_of(judge(experiment, phases_of(experiment), units, now), units)


@pytest.fixture
def exported(tmp_path, rows):
    experiment = experiment_of()
    lines = [header(experiment, FILE, phases_of(experiment), LATER), *rows]
    path = tmp_path / "outcomes.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_the_file_and_the_rows_give_the_same_report(rows, exported):
    done = CliRunner().invoke(commands, ["report", str(exported), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == json.loads(json.dumps(report(rows)))


def test_the_report_counts_every_unit_and_turn(rows):
    made = report(rows)
    assert sum(arm["units"] for arm in made["arms"]) == 1500
    assert sum(arm["turns"] for arm in made["arms"]) == len(rows)
    assert sum(made["sample_ratio"]["assigned"]["counts"].values()) == 1500
    assert (made["verdict"], made["winner"]) == ("winner", "shown")
    json.dumps(made, allow_nan=False)


def test_a_metric_that_should_be_low_is_reported_in_its_own_direction(rows):
    slow = [
        {
            **row,
            "ttft_ms": 900.0
            if row["arm"] == "shown" and row["turn"].endswith("0") and int(row["turn"][2:-2]) % 3
            else 100.0,
        }
        for row in rows
    ]
    (one,) = [one for one in report(slow)["comparisons"] if one["metric"] == "slow"]
    assert one["difference"] > 0.3
    assert one["lower"] is None or one["lower"] < one["difference"] < one["upper"]


def test_the_digest_is_of_what_was_found_and_not_of_when(rows):
    assert digest_of(report(rows)) == digest_of(report(rows, LATER + 5))
    assert digest_of(report(rows)) != digest_of(report(rows[:-1]))


def test_the_words_start_with_the_verdict_and_name_every_arm(rows):
    said = told(report(rows))
    assert "Verdict: WINNER" in said.split("\n\n")[1]
    assert "shown is better than plain in solved" in said
    assert re.search(r"plain \(control\)\s+\d+", said)


def test_an_experiment_without_units_reports_that_it_runs():
    said = told(report([]))
    assert "RUNNING" in said


def test_the_page_holds_its_plots(rows, exported, tmp_path):
    page = tmp_path / "report.html"
    done = CliRunner().invoke(commands, ["report", str(exported), "--html", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "not an experiment"),
        (["{}"], "not an experiment"),
        (["{"], "line 1"),
        ([json.dumps(header(experiment_of(), "name = 1", (), LATER))], "line 1"),
        (
            [
                json.dumps(header(experiment_of(), FILE, phases_of(experiment_of()), LATER)),
                '{"turn": "t"}',
                "x",
            ],
            "line 2",
        ),
    ],
)
def test_lines_that_cannot_be_read_are_named(lines, says):
    with pytest.raises(OutcomesInvalid, match=says):
        parse_outcomes(lines, "outcomes.jsonl")
