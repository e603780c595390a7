"""The ladder on small models: every rung a row, a second start makes nothing again, files for people."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from training import cli, pace
from training.climbing import Order
from training.data import read_split
from training.errors import DataRefused, TrainingRefused
from training.ladder import Ladder
from training.plots import apart
from training.records import Example, Split
from training.rungs import rungs

MANY = tuple(Example(id=str(at), text=str(at), label=at % 2) for at in range(1_000))
FEW = (
    "zero-shot",
    "few-shot-*",
    "*/features-lr",
    "*/output-layers",
    "decoder/last-2",
    "decoder/lora*",
    "*/all",
)


@pytest.fixture(scope="module")
def climbed(bases, reviews, tmp_path_factory):
    """The command, run once, then again."""
    out = tmp_path_factory.mktemp("ladder")
    given = [
        str(reviews),
        "--out",
        str(out),
        "--seeds",
        "1,2",
        "--epochs",
        "1",
        "--max-tokens",
        "48",
        "--json",
    ]
    given += [part for base in bases.values() for part in ("--base", str(base))]
    given += [part for one in FEW for part in ("--rungs", one)]
    first, second = (CliRunner().invoke(cli.ladder, given, catch_exceptions=False) for _ in "ab")
    return out, first, second


def test_every_rung_is_a_row_with_its_costs(climbed):
    out, first, _ = climbed
    assert first.exit_code == 0, first.output
    content = json.loads((out / "ladder.json").read_text())
    by_name = {row["rung"]: row for row in content["rungs"]}
    prompted = {"zero-shot", "zero-shot-calibrated", "few-shot-nearest-4", "few-shot-random-4"}
    trained = {"encoder/features-lr", "decoder/last-2", "decoder/lora-r8", "encoder/all"}
    assert prompted | trained <= by_name.keys()
    assert not [row for row in content["rungs"] if "failed" in row]
    assert len(by_name["few-shot-random-4"]["by_seed"]) == 2
    assert by_name["zero-shot"]["trainable"] == 0
    assert by_name["few-shot-nearest-4"]["added_tokens"] > 10
    assert 0 < by_name["decoder/lora-r8"]["share"] < by_name["decoder/all"]["share"]
    for row in content["rungs"]:
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert row["peak_bytes"] > 0
        assert row["serve_seconds"] > 0


def test_a_second_start_keeps_every_run(climbed):
    _, first, second = climbed
    assert "kept from before" not in first.stderr
    made = [line for line in second.stderr.splitlines() if "seed" in line]
    assert made
    assert all("kept from before" in line for line in made)
    assert json.loads(first.stdout)["rungs"] == json.loads(second.stdout)["rungs"]


def test_people_get_a_table_a_page_and_plots(climbed):
    out, _, _ = climbed
    table = (out / "ladder.md").read_text()
    assert "| zero-shot |" in table
    assert "ladder.png" in table
    assert (out / "ladder.html").read_text().count("data:image/png") == 3
    names = ("ladder", "layerwise-encoder", "layerwise-decoder")
    assert all((out / f"{name}.{kind}").stat().st_size for name in names for kind in ("svg", "png"))


def test_a_rung_that_fails_is_a_row_and_the_others_go_on(bases, reviews, tmp_path):
    order = Order(
        bases=(bases["encoder"],), out=tmp_path, device="cpu", seeds=(1,), epochs=0.5, max_tokens=48,
        rungs=("encoder/output-layers", "encoder/last-1"),
    )  # fmt: skip
    ladder = Ladder(order, read_split(reviews), print)
    ladder.rungs[1].options["n"] = 9  # more blocks than there are
    rows = ladder.climb()
    assert rows[0].runs
    assert "has 4 blocks" in rows[1].failed


def test_a_report_makes_no_run(bases, reviews, tmp_path):
    given = [str(reviews), "--out", str(tmp_path), "--base", str(bases["encoder"]), "--seeds", "1"]
    wanted = ["--rungs", "encoder/features-lr"]
    CliRunner().invoke(cli.ladder, [*given, *wanted], catch_exceptions=False)
    found = CliRunner().invoke(cli.ladder, [*given, "--report", "--json"], catch_exceptions=False)
    rows = json.loads(found.stdout)["rungs"]
    assert [row["rung"] for row in rows if "failed" not in row] == ["encoder/features-lr"]
    assert {row["failed"] for row in rows if "failed" in row} == {"not made yet"}


def test_a_rung_that_takes_longer_than_the_budget_is_left_out_by_name(bases, reviews, tmp_path):
    said = []
    order = Order(
        bases=(bases["encoder"],), out=tmp_path, device="cpu", seeds=(1,), minutes=1e-5, max_tokens=48,
        rungs=("encoder/all",),
    )  # fmt: skip
    ladder = Ladder(order, read_split(reviews), said.append)
    assert "minutes allow" in said[0]
    assert said[1] == "left out for the time they take: encoder/all"
    (row,) = ladder.climb()
    assert "it alone takes about" in row.failed


def test_no_run_is_begun_when_the_time_is_up_and_a_stopped_ladder_keeps_its_plan(bases, reviews, tmp_path):
    order = Order(
        bases=(bases["encoder"],), out=tmp_path, device="cpu", seeds=(1, 2), minutes=2, max_tokens=48,
        rungs=("encoder/features-lr", "encoder/last-1"),
    )  # fmt: skip
    first = Ladder(order, read_split(reviews), print)
    first._began -= 180
    assert {row.failed for row in first.climb()} == {"the time was up before it"}
    second = Ladder(order, read_split(reviews), print)
    assert (second.split, second.rungs) == (first.split, first.rungs)
    rows = second.climb()
    assert [len(row.runs) for row in rows] == [1, 2]
    second._began -= 180
    again = second.climb()  # what was made is kept, whatever the time is
    assert [row.runs for row in again] == [row.runs for row in rows]


@settings(deadline=None, max_examples=40)
@given(fast=st.floats(10, 1e5), slow=st.floats(1, 1e4), seconds=st.floats(1, 1e5), seeds=st.integers(1, 3))
def test_what_is_planned_fits_the_time_and_what_is_left_out_is_the_dearest(fast, slow, seconds, seeds):
    split = Split(name="x", labels=("a", "b"), train=MANY, valid=MANY[:400], test=MANY[:600], digest="")
    every = rungs({"encoder": 6, "decoder": 30}, seeds=seeds)
    paces = {"encoder": pace.Pace(fast, 100), "decoder": pace.Pace(slow, 120)}
    plan = pace.planned(split, every, paces, 2.0, seconds)
    kept = plan.of(every)
    assert not kept or pace.cost(kept, paces, 2.0, *plan.texts) <= seconds
    assert not plan.left_out or plan.seeds == 1
    least = (pace.LEAST_TRAIN, pace.LEAST_VALID, pace.LEAST_TEST)
    costs = [pace.cost([one], paces, 2.0, *least) for one in kept]
    assert all(one >= max(costs, default=0) for one in plan.left_out.values())
    cut = plan.cut(split)
    assert (len(cut.train), len(cut.valid), len(cut.test)) == plan.texts


def test_rungs_that_are_not_there_and_two_of_a_kind_are_refused(bases, reviews, tmp_path):
    split = read_split(reviews)
    with pytest.raises(DataRefused, match="no rung is called 'lorra'; there are encoder/features-lr"):
        Ladder(Order(bases=(bases["encoder"],), out=tmp_path, device="cpu", rungs=("lorra",)), split, print)
    with pytest.raises(TrainingRefused, match="are both encoders"):
        Ladder(Order(bases=(bases["encoder"],) * 2, out=tmp_path, device="cpu"), split, print)


def test_a_model_that_is_not_there_is_named_with_the_way_out(reviews, tmp_path):
    found = CliRunner().invoke(cli.ladder, [str(reviews), "--out", str(tmp_path), "--base", "nowhere"])
    assert found.exit_code == 1
    assert "no model 'nowhere'" in found.output
    assert "fewshot models fetch" in found.output


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("nowhere", "no template 'nowhere'"),
        ("question-type", "tells apart ABBR, DESC"),
        ("plain", "apart nothing"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_before_anything_is_trained(
    bases, reviews, tmp_path, template, said
):
    given = [str(reviews), "--out", str(tmp_path), "--base", str(bases["decoder"]), "--template", template]
    found = CliRunner().invoke(cli.ladder, given)
    assert found.exit_code == 1
    assert said in found.output
    assert not list((tmp_path / "runs").iterdir())


def test_every_rung_has_a_name_of_its_own():
    names = [one.name for one in rungs({"encoder": 6, "decoder": 30}, seeds=3, shots=(4, 8), ranks=(3, 8))]
    assert len(set(names)) == len(names)
    assert {"encoder/lora-r3", "decoder/lora-r3", "decoder/lora-r8"} <= set(names)
    assert "decoder/last-5" in names


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 200)), max_size=25))
def test_no_two_numbers_of_a_plot_lie_over_each_other(points):
    up = apart(points, 22, 11)
    assert all(one >= 0 for one in up)
    spots = [(x, y + more) for (x, y), more in zip(points, up, strict=True)]
    for at, (x, y) in enumerate(spots):
        for left, low in spots[:at]:
            assert abs(x - left) >= 22 or abs(y - low) >= 11 - 1e-9
