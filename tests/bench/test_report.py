"""From figures to verdicts, tables, plots and exit codes."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench.command import measured
from bench.records import Bar, Check, Curve, Plot, Result
from bench.report import as_json, markdown, page, write
from bench.rounds import Interval

RESULT = Result(
    goal="tea",
    title="G0: tea",
    workload="W0: one cup",
    bars=[Bar(name="heat", measured=Interval(1.0, 0.9, 1.1), must=1.2, moon=1.0)],
    ratio=Interval(1.0, 0.9, 1.1),
    noise_floor=0.05,
    rounds={"c 1": {"A": [(1.0, 1.1)]}},
    arms={"A": {"p50": 1.0, "cpu_us_per_token": Interval(5.0, 4.0, 6.0)}},
    checks=[Check("the cup is whole", True)],
    machine={
        "load_before": [0.1, 0.1, 0.1],
        "load_after": [0.2, 0.1, 0.1],
        "cores": 2,
        "processor": "kettle",
        "busy_share": 0.5,
        "at": "2026-01-01T00:00:00Z",
        "commit": "abc",
    },
    plot=Plot(
        x="cups", y="heat", curves=[Curve(name="A", x=[1, 2], y=[Interval(1, 0.9, 1.1)] * 2)], limit=1.2
    ),
)


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar(name="a", measured=Interval(1.0, 0.9, 1.1), must=1.1), "met"),
        (Bar(name="a", measured=Interval(1.0, 0.9, 1.1), must=1.05), "missed"),
        (Bar(name="a", measured=Interval(1.0, 0.9, 1.1), must=0.9, sense="at least"), "met"),
        (Bar(name="a", measured=Interval(1.0, 0.8, 1.1), must=0.9, sense="at least"), "missed"),
        (Bar(name="a", measured=Interval(1.0, 1.0, 1.0), must=1.02, resolution=0.03), "invalid"),
        (Bar(name="a", measured=Interval(1.0, 0.9, 1.1)), "reported"),
    ],
)
def test_a_bar_is_met_by_the_worse_end_of_its_interval(bar, verdict):
    assert bar.verdict == verdict


def test_a_failed_check_makes_the_result_invalid_whatever_the_bars_say():
    assert RESULT.verdict == "met"
    assert replace(RESULT, checks=[Check("the cup is whole", False)]).verdict == "invalid"


def test_one_missed_bar_misses_the_goal():
    cold = Bar(name="cold", measured=Interval(2, 2, 2), must=1)
    assert replace(RESULT, bars=[*RESULT.bars, cold]).verdict == "missed"


def test_the_json_has_every_field_of_the_protocol():
    said = json.loads(json.dumps(as_json(RESULT)))
    assert {"goal", "bars", "ratio", "interval", "noise_floor", "rounds"} <= set(said)
    assert {"arms", "checks", "machine", "verdict"} <= set(said)
    assert said["bars"][0]["verdict"] == "met"
    assert said["ratio"] == 1.0
    assert said["interval"] == [0.9, 1.1]


def test_the_table_names_bar_limit_load_and_floor():
    text = markdown(RESULT)
    assert "| heat | 1 | 0.9 – 1.1 | ≤ 1.2 | ≤ 1 | met |" in text
    assert "Noise floor: 5.0%" in text
    assert "Load average 0.1 before, 0.2 after" in text


def test_json_table_and_plot_are_written(tmp_path):
    write(RESULT, tmp_path)
    assert json.loads((tmp_path / "tea.json").read_text())["goal"] == "tea"
    assert (tmp_path / "tea.md").read_text().startswith("## G0: tea")
    assert ElementTree.parse(tmp_path / "tea.svg").getroot().tag.endswith("svg")


def test_the_page_is_made_of_the_json(tmp_path):
    write(RESULT, tmp_path)
    text = page([json.loads((tmp_path / "tea.json").read_text())])
    assert "nothing here is typed by hand" in text
    assert markdown(RESULT) in text


@pytest.mark.parametrize(("must", "code"), [(1.2, 0), (1.0, 1)])
def test_the_exit_code_tells_met_from_missed(tmp_path, must, code):
    async def measure(say):
        return replace(RESULT, bars=[replace(RESULT.bars[0], must=must)])

    with pytest.raises(SystemExit) as ended:
        measured(measure, out=tmp_path, anyway=True)
    assert ended.value.code == code
