"""`fewshot export`: the journal as files that reports and training read."""

import json
import stat

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from server.cli import main
from server.evaluating import report_from
from server.schema import exposures
from tests.server.test_judging import GUARDED, World


@pytest.fixture
def here(tmp_path):
    made = World(tmp_path, *GUARDED)
    made.traffic(users=300)
    return made


@pytest.fixture
def run(tmp_path):
    runner = CliRunner(env={"FEWSHOT_DATA_DIR": str(tmp_path)})

    def invoke(*arguments, code=0):
        done = runner.invoke(main, list(map(str, arguments)))
        assert done.exit_code == code, done.output
        return done

    return invoke


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_exported_outcomes_report_what_the_journal_reports(here, run, tmp_path):
    out = tmp_path / "outcomes.jsonl"
    done = run("export", "outcomes", "--experiment", "shots", "--out", out)
    first, *turns = rows_of(out)
    assert first["kind"] == "experiment"
    with here.engine.connect() as connection:
        logged = connection.execute(sa.select(exposures.c.turn)).scalars().all()
    assert sorted(turn["turn"] for turn in turns) == sorted(logged)
    assert f"{len(turns)} turns" in done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    from_file = json.loads(run("experiment", "report", out, "--json").output)
    from_journal = report_from(here.engine, here.known, first["exported_at"])
    assert from_file == {key: value for key, value in from_journal.items() if key in from_file}


def test_training_rows_are_of_liked_answers_and_split_by_unit(here, run, tmp_path):
    out = tmp_path / "sft.jsonl"
    done = run("export", "sft", "--out", out, "--most-per-unit", 2)
    rows = rows_of(out)
    assert rows
    assert set(rows[0]) == {"prompt", "completion", "written_by", "score", "split", "provenance"}
    parts = {}
    for row in rows:
        parts.setdefault(row["provenance"]["unit"], set()).add(row["split"])
    assert all(len(of) == 1 for of in parts.values())
    assert "100% of them written by the model" in done.stderr
    assert "left out" in done.stderr


def test_a_prompt_can_be_rendered_under_another_wording(here, run, tmp_path):
    out = tmp_path / "sft.jsonl"
    run("export", "sft", "--out", out, "--template", "plain@1")
    assert rows_of(out)[0]["prompt"][0]["content"].startswith("You are a helpful assistant")
    assert "no template" in run("export", "sft", "--template", "plain@77", code=1).output


def test_held_out_items_never_leave(here, run, tmp_path):
    held = tmp_path / "held.jsonl"
    held.write_text("\n".join(json.dumps({"question": f"question {n}"}) for n in range(300)))
    done = run("export", "pairs", "--held-out", held)
    assert done.stdout == ""
    assert "held out" in done.stderr
    held.write_text('{"nothing": 1}')
    assert "no items" in run("export", "pairs", "--held-out", held, code=1).output


def test_turns_of_several_tenants_do_not_mix(here, run):
    with here.engine.begin() as connection:
        one = connection.execute(sa.select(exposures.c.turn).limit(1)).scalar_one()
        connection.execute(sa.update(exposures).where(exposures.c.turn == one).values(tenant="other"))
    assert "name one with --tenant" in run("export", "sft", code=2).output
    assert "no turns of a tenant" in run("export", "sft", "--tenant", "x", code=1).output
    mine = [json.loads(line) for line in run("export", "sft", "--tenant", "t").stdout.splitlines()]
    assert one not in {row["provenance"]["turn"] for row in mine}


def test_outcomes_need_their_experiment(here, run):
    assert "--experiment" in run("export", "outcomes", code=2).output
    assert "no experiment" in run("export", "outcomes", "--experiment", "x", code=1).output


def test_time_divides_what_is_learnt_from_what_is_judged(here, run):
    assert run("export", "sft", "--before", "2000-01-01").stdout == ""
    assert run("export", "sft", "--since", "2000-01-01").stdout != ""
