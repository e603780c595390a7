"""Write the docs that are made from the code: settings, commands, HTTP interface, environment example.

python deploy/generate_docs.py           write them
python deploy/generate_docs.py --check   exit 1 when a file on disk differs, naming it
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from deploy.api_page import api_page
from server.alias_settings import Alias
from server.cli import ABOUT, main
from server.settings import knobs

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made by `make docs`; edit the code instead. -->\n"


def settings_page() -> str:
    lines = [
        NOTE,
        "# Settings",
        "",
        "Read once, at start, from `fewshot.toml` in the working folder, `--config` or `FEWSHOT_CONFIG`.",
        "A variable wins over the file. `fewshot settings` shows what is in force.",
        "",
        "| key | variable | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{key}` | `{name}` | {default} | {about} |" for key, name, default, about in knobs()]
    lines += [
        "",
        "## Aliases",
        "",
        "`[aliases.NAME]` binds a name that callers may use as `model`: lower-case letters, digits, `.`,",
        "`_`, `-`. All its keys are optional; none has a variable.",
        "",
        "| key of `aliases.NAME` | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {knob.description} |" for name, knob in Alias.model_fields.items()]
    return "\n".join(lines) + "\n"


def env_example() -> str:
    lines = ["# Every setting as a variable, with its default. Made by `make docs`; copy, uncomment, change."]
    for _, name, default, about in knobs():
        lines += ["", f"# {about}", f"#{name}={default}"]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    sections = [NOTE + "\n# Commands\n"]
    for path in command_paths():
        done = CliRunner().invoke(main, [*path, "--help"], prog_name="fewshot", terminal_width=100)
        sections.append(f"## fewshot {' '.join(path)}\n\n```text\n{done.output.strip()}\n```\n")
    return "\n".join(sections)


def command_paths() -> Iterator[tuple[str, ...]]:
    context = click.Context(main)
    for name in sorted(ABOUT):
        yield (name,)
        command = main.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.list_commands(context))


PAGES = {
    ROOT / "docs/settings.md": settings_page,
    ROOT / "docs/commands.md": commands_page,
    ROOT / "docs/api.md": lambda: api_page(NOTE),
    ROOT / "deploy/env.example": env_example,
}


def run(check: bool) -> int:
    stale = []
    for file, page in PAGES.items():
        text = page()
        if file.is_file() and file.read_text() == text:
            continue
        if check:
            stale.append(str(file.relative_to(ROOT)))
        else:
            file.write_text(text)
    if stale:
        click.echo(f"not up to date: {', '.join(stale)}; run `make docs`", err=True)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(run("--check" in sys.argv))
