"""The command: light to start, clear when refused."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from server.cli import ABOUT, LAZY, main
from server.refusal import EXIT_CONFIGURATION

HEAVY = (
    "torch",
    "vllm",
    "faiss",
    "tantivy",
    "sentence_transformers",
    "transformers",
    "langchain_text_splitters",
)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["ingest", "--help"], ["search", "--help"], ["serve", "--help"], ["prompts", "--help"]],
)
def test_help_imports_no_heavy_library(arguments):
    program = (
        "import sys\nfrom server.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr == ""


def test_every_command_is_described_and_opens():
    assert set(ABOUT) <= set(LAZY)
    for command in ABOUT:
        done = CliRunner().invoke(main, [command, "--help"])
        assert done.exit_code == 0, (command, done.output)


def test_refused_settings_exit_78_and_say_why():
    done = run("serve", FEWSHOT_SERVER_HOST="0.0.0.0")
    assert done.returncode == EXIT_CONFIGURATION
    assert "fewshot keys create" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_named_before_anything_starts(tmp_path):
    done = run("serve", FEWSHOT_CACHE_DIR=str(tmp_path), FEWSHOT_DATA_DIR=str(tmp_path))
    assert done.returncode == EXIT_CONFIGURATION
    assert "fewshot models fetch" in done.stderr


def test_keys_are_made_listed_and_revoked(tmp_path):
    environ = {"FEWSHOT_DATA_DIR": str(tmp_path)}
    runner = CliRunner(env=environ)
    key = runner.invoke(main, ["keys", "create", "--tenant", "acme"]).output.strip()
    prefix = key.split("_")[1]
    assert "acme" in runner.invoke(main, ["keys", "list"]).output
    assert runner.invoke(main, ["keys", "revoke", prefix]).exit_code == 0
    assert "revoked" in runner.invoke(main, ["keys", "list"]).output
    assert runner.invoke(main, ["keys", "revoke", prefix]).exit_code == 1


def test_keys_are_described_as_json(tmp_path):
    runner = CliRunner(env={"FEWSHOT_DATA_DIR": str(tmp_path)})
    options = ["--name", "ci", "--days", "1", "--tokens-per-minute", "5000", "--scope", "audit", "--json"]
    made = json.loads(runner.invoke(main, ["keys", "create", *options]).output)
    assert made.pop("key").startswith(f"fsk_{made['prefix']}_")
    assert json.loads(runner.invoke(main, ["keys", "list", "--json"]).output) == [made]
    assert (made["state"], made["tokens_per_minute"], made["requests_per_minute"]) == ("active", 5000, None)
    refused = runner.invoke(main, ["keys", "create", "--tenant", "a b"])
    assert (refused.exit_code, "a tenant is" in refused.output) == (1, True)
