"""`fewshot replay`: text for people, JSON for programs, exit codes for scripts."""

import json

from click.testing import CliRunner

from server.cli import main
from tests.server.test_replay import FACTS, grounded, served_by


def replayed(running, *arguments):
    return CliRunner().invoke(main, ["replay", *arguments, "--url", running.url])


def test_the_command_shows_the_record_and_that_the_answer_came_out_the_same(serve):
    with serve(reply="Two minutes [1].") as running:
        turn = grounded(running, temperature=0)["id"]
        done, shown = replayed(running, turn), replayed(running, turn, "--record")
        whole = json.loads(replayed(running, turn, "--json").stdout)
    assert (done.exit_code, shown.exit_code) == (0, 0), done.output
    lines = done.stdout.splitlines()
    assert lines[0] == turn
    said = dict(line.split(None, 1) for line in lines[1:9])
    assert said["engine"] == "echo 1 on cpu, none"
    assert said["template"].startswith("grounded@")
    assert said["sampling"].startswith("temperature 0.0, top_p 1.0")
    assert "  source 1  facts.jsonl (there, cited)" in lines
    assert lines[-2:] == ["  all of it is still as it was", "Identical, and exact."]
    assert "Identical" not in shown.stdout
    assert whole["record"]["id"] == whole["replay"]["id"] == turn


def test_the_command_shows_where_two_answers_part_and_exits_1(serve):
    with served_by(serve, reply="Two minutes, or so.") as running:
        turn = grounded(running, fewshot=FACTS)["id"]
    with served_by(serve, reply="Two hours, or so.", profile={"engine_version": "2"}) as running:
        done = replayed(running, turn)
    assert done.exit_code == 1
    assert "Different from token 4 of choice 0 on:" in done.stdout
    assert "  then Two ⟨minutes, or so.⟩" in done.stdout
    assert "  now  Two ⟨hours, or so.⟩" in done.stdout
    assert "  ! engine_version: another version of the engine" in done.stdout


def test_the_command_says_what_cannot_be_compared_and_exits_2(serve):
    with serve(reply="x") as running:
        turn = running.client().responses.create(input="Hello", store=False).id
        done, absent = replayed(running, turn), replayed(running, "chatcmpl-nope")
    assert done.exit_code == 2
    assert done.stdout.splitlines()[-2] == "Nothing to compare."
    assert "no longer as it was: prompt, answer" in done.stdout
    assert (absent.exit_code, "there is no such answer" in absent.output) == (1, True)
