"""The page says of every goal which command measures it."""

from bench.__main__ import GOALS
from bench.coverage import COVERED, table


def test_every_goal_is_there_once_and_its_command_exists():
    assert [one.goal for one in COVERED] == [f"G{number}" for number in range(1, 15)]
    assert {one.command for one in COVERED if one.command} <= set(GOALS)


def test_what_has_figures_is_told_from_what_has_none():
    lines = table(["hybrid"]).splitlines()
    [hybrid] = [line for line in lines if "`python -m bench hybrid`" in line]
    [scan] = [line for line in lines if "`python -m bench scan`" in line]
    assert "| yes |" in hybrid
    assert "| no |" in scan
    assert any("none yet" in line for line in lines)
