"""The command line: what is listed, what is refused, and that nothing heavy is imported to say so."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from bench import machine
from bench.__main__ import GOALS, load, main


def test_every_goal_is_listed_and_is_a_command():
    listed = CliRunner().invoke(main, ["--list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == list(GOALS)
    for name in GOALS:
        assert isinstance(load(name), click.Command)


@pytest.mark.parametrize("name", [name for name, goal in GOALS.items() if not goal.needs])
def test_goals_share_their_options(name):
    options = {option for parameter in load(name).params for option in parameter.opts}
    assert {"--quick", "--out", "--anyway"} <= options


def test_the_list_imports_neither_torch_nor_vllm():
    script = (
        "import sys; from bench.__main__ import main; main(['--list'], standalone_mode=False); "
        "assert not {'torch', 'vllm', 'faiss', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_a_busy_machine_is_refused_as_invalid(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    done = CliRunner().invoke(main, ["per_token", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--anyway" in done.stderr
