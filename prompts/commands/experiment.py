"""`fewshot experiment`: judge arms by what was logged, and check the judge."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prompts.cli import Commands
from prompts.telling import told

if TYPE_CHECKING:
    from prompts.analysis.selftest import Power, Row


@click.group(cls=Commands)
def experiment() -> None:
    """Experiments: judge arms by exported outcomes, and check the statistics."""


def report_options(command: Callable[..., None]) -> Callable[..., None]:
    """--json and --html."""
    command = click.option("--json", "as_json", is_flag=True, help="One JSON object.")(command)
    page = click.Path(dir_okay=False, path_type=Path)
    return click.option("--html", type=page, help="Also write a page with plots here.")(command)


@experiment.command()
@click.option("--runs", type=click.IntRange(min=100), default=4000, show_default=True, help="Per row.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def selftest(runs: int, as_json: bool) -> None:
    """Simulate experiments; exit code 1 when an error rate is not as promised.

    Fewer than 4000 runs widen the tolerances twofold.
    """
    from prompts.analysis.selftest import power_table, rows

    measured = []
    for row in rows(runs):
        measured.append(row)
        if not as_json:
            _print_row(row)
    power = list(power_table(runs))
    off = [row.number for row in measured if not row.fits]
    if as_json:
        told = {
            "runs": runs,
            "fits": not off,
            "rows": [_row_object(row) for row in measured],
            "power": [_finite(dataclasses.asdict(line)) for line in power],
        }
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        _print_power(power)
        click.echo(f"outside tolerance: rows {', '.join(map(str, off))}" if off else "all rows as promised")
    sys.exit(1 if off else 0)


@experiment.command()
@click.argument("outcomes", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@report_options
def report(outcomes: Path, as_json: bool, html: Path | None) -> None:
    """Judge the arms by OUTCOMES, a file that `fewshot export outcomes` wrote. No database is read."""
    show(report_on(outcomes), as_json=as_json, html=html)


def report_on(outcomes: Path) -> dict[str, Any]:
    """The report of an exported log, as of the time of its export. Raises OutcomesInvalid."""
    from prompts.analysis.report import report_of
    from prompts.analysis.verdict import judge
    from prompts.outcome_files import read_outcomes

    exported = read_outcomes(outcomes)
    judgement = judge(exported.experiment, exported.phases, exported.units, exported.at)
    return report_of(judgement, exported.units)


def show(report: dict[str, Any], *, as_json: bool, html: Path | None) -> None:
    """Print a report, and write its page. Raises PlotsUnavailable."""
    if html is not None:
        from prompts.analysis.plots import page_of

        html.write_text(page_of(report), encoding="utf-8")
    click.echo(json.dumps(report, ensure_ascii=False) if as_json else told(report))
    if html is not None:
        click.echo(f"plots: {html}", err=True)


def _print_row(row: Row) -> None:
    click.echo(f"{row.number:>2}  {row.setting}  [{row.law}]")
    for one in row.measured:
        mark = "ok" if one.fits else "OFF"
        click.echo(f"      {one.what:<38} {one.found:>9.4g}   {one.target:<16} {mark}")


def _print_power(power: list[Power]) -> None:
    limits = [limit for limit, _ in power[0].within]
    click.echo("\nPower: the chance that the e-process finds the difference within so many units per arm")
    click.echo("  rates        " + "".join(f"{limit:>8}" for limit in limits) + "    median   sequence")
    for line in power:
        shares = "".join(f"{share:>8.3f}" for _, share in line.within)
        medians = f"{line.median:>10.0f}{line.sequence_median:>11.0f}"
        click.echo(f"  {line.control:.2f} → {line.arm:.2f}  {shares}{medians}")


def _row_object(row: Row) -> dict[str, Any]:
    measured = [{**_finite(dataclasses.asdict(one)), "fits": one.fits} for one in row.measured]
    return {
        "row": row.number,
        "setting": row.setting,
        "law": row.law,
        "fits": row.fits,
        "measured": measured,
    }


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {
        key: None if isinstance(value, float) and math.isinf(value) else value
        for key, value in fields.items()
    }
