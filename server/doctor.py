"""`fewshot doctor`: everything a server needs, looked at without starting one."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from server.diagnosis.findings import Finding, fail, ok
from server.settings import Settings, SettingsRefused


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects.")
@click.pass_obj
def doctor(settings: Settings | SettingsRefused, as_json: bool) -> None:
    """Check versions, models, stores, disk, ports, cards and settings; one line each.

    Nothing is changed and no server is started. `warn` serves, `fail` does not, or not safely; each names
    the way out. Exit code 1 if anything fails.
    """
    found = []
    for finding in diagnosed(settings):
        found.append(finding)
        if not as_json:
            click.echo(line(finding))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    raise SystemExit(any(finding.state == "fail" for finding in found))


def diagnosed(settings: Settings | SettingsRefused) -> Iterator[Finding]:
    """Every finding, as it is made; with refused settings, what needs none."""
    from server.diagnosis import holdings, machine, reading, software

    if isinstance(settings, SettingsRefused):
        yield fail("settings", " ".join(str(settings).split()), "correct the file or the variable")
        yield from software.software(models=True)
        return
    yield ok("settings", f"data in {settings.paths.data}, cache in {settings.paths.cache}")
    yield from software.software(models=settings.engine.kind == "vllm")
    yield from machine.machine(settings, holdings.model_folder(settings))
    yield reading.reader()
    yield from holdings.holdings(settings)


def line(finding: Finding) -> str:
    """`state name: what was found -> the way out`."""
    way = f" -> {finding.way_out}" if finding.way_out else ""
    return f"{finding.state:<4} {finding.name}: {finding.found}{way}"
