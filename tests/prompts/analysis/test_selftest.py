"""The error rates that the documentation promises, with 1,000 runs and twice the tolerance."""

import json

from click.testing import CliRunner

from prompts.analysis.selftest import SETTINGS, rows
from prompts.analysis.simulations.measured import at_least, at_most, near
from prompts.commands.experiment import experiment


def test_every_row_is_as_promised():
    measured = list(rows(1000, units=100_000))
    assert [row.number for row in measured] == list(range(1, 24)) == list(SETTINGS)
    assert [(row.number, one) for row in measured for one in row.measured if not one.fits] == []


def test_a_rate_outside_its_tolerance_is_called_so():
    assert not near("x", 0.08, 0.05, 0.02, 1).fits
    assert near("x", 0.08, 0.05, 0.02, 2).fits
    assert not at_most("x", 0.02, 0.01, 1).fits
    assert not at_least("x", 0.98, 0.99, 1).fits
    assert at_least("x", 0.98, 0.99, 2).fits


def test_a_broken_test_fails_the_command(monkeypatch):
    from prompts.analysis import selftest

    monkeypatch.setattr(selftest, "rows", lambda runs: iter([selftest._row(1, [near("x", 1, 0, 0.1, 1)])]))
    monkeypatch.setattr(selftest, "POWER", ((0.3, 0.6),))
    for options in ([], ["--json"]):
        done = CliRunner().invoke(experiment, ["selftest", "--runs", "100", *options])
        assert done.exit_code == 1
    told = json.loads(done.output)
    assert told["fits"] is False
    assert told["rows"][0]["measured"][0]["found"] == 1
