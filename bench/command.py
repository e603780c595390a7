"""What every goal's command shares: its options, the refusal of a busy machine, the report, the exit code."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from bench.machine import refuse_when_busy
from bench.records import EXIT_CODES, NotMeasured, Result
from bench.report import markdown, write
from server.loops import loop_factory

OUT = Path("build/bench")
INVALID = EXIT_CODES["invalid"]


def goal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--quick, --out, --anyway."""
    for option in (
        click.option("--anyway", is_flag=True, help="Measure although the machine is busy with other work."),
        click.option(
            "--out",
            type=click.Path(file_okay=False, path_type=Path),
            default=OUT,
            show_default=True,
            help="Folder of the JSON, the table and the plot.",
        ),
        click.option("--quick", is_flag=True, help="Fewer and shorter rounds: a look, not evidence."),
    ):
        command = option(command)
    return command


def measured(
    measure: Callable[[Callable[[str], object]], Awaitable[Result]], *, out: Path, anyway: bool
) -> NoReturn:
    """Measure, write the report, print its table, and exit: 0 musts met, 1 missed, 2 invalid."""
    try:
        if not anyway:
            refuse_when_busy()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:  # the server's: a client must be cheaper
            result = runner.run(_awaited(measure(say)))
    except NotMeasured as problem:
        click.echo(f"Not measured: {problem}", err=True)
        raise SystemExit(INVALID) from None
    write(result, out)
    click.echo(markdown(result))
    raise SystemExit(EXIT_CODES[result.verdict])


def say(line: str) -> None:
    """Progress, beside the result."""
    click.echo(line, err=True)


async def _awaited(result: Awaitable[Result]) -> Result:
    return await result
