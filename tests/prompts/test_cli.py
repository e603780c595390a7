"""`fewshot prompts`: what people see, and the exit codes that scripts lean on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from prompts.cli import prompts
from prompts.templates import Library

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = [
    (template.reference, number)
    for template in Library.load()
    for number in range(1, len(template.examples) + 1)
]


def run(*arguments):
    return CliRunner().invoke(prompts, list(map(str, arguments)))


@pytest.mark.parametrize(("reference", "number"), EXAMPLES)
def test_shipped_examples_render_as_recorded(reference, number):
    recorded = GOLDEN / f"{reference}.{number}.txt"
    shown = run("show", reference, "--example", number).output
    assert recorded.is_file(), f"fewshot prompts show {reference} --example {number} > {recorded}"
    assert shown == recorded.read_text()


def test_no_record_is_left_of_examples_that_are_gone():
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{number}.txt" for name, number in EXAMPLES}


def test_the_shipped_library_has_no_problems():
    result = run("lint")
    assert result.output.startswith("0 problems")
    assert result.exit_code == 0


def test_lint_names_every_file_and_fails(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.toml").write_text("format = 1\nname = 'y'")
    (tmp_path / "demos.jsonl").write_text('{"id": "a"}\n')
    result = run("lint", tmp_path)
    assert result.exit_code == 1
    assert "x/1.toml: version is missing" in result.output
    assert "demos.jsonl: line 1" in result.output


def test_show_renders_given_values(tmp_path):
    values = tmp_path / "values.json"
    values.write_text(json.dumps({"question": "Why?", "instructions": "Be brief."}))
    shown = run("show", "plain", "--with", values, "--json")
    assert [message["text"] for message in json.loads(shown.output)["messages"]] == ["Be brief.", "Why?"]


def test_an_unknown_name_is_an_error_with_a_hint():
    result = run("show", "groundd")
    assert result.exit_code == 1
    assert "grounded" in result.output


def test_list_names_every_template():
    rows = json.loads(run("list", "--json").output)
    assert {row["name"] for row in rows} == {template.reference for template in Library.load()}


def test_help_and_layout_come_without_numpy():
    code = "import sys, prompts.cli, prompts.layout; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
