"""`fewshot prompts pool` on the command line, and the server that serves what it built."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from prompts.templates import Library
from server.cli import main
from server.metrics import Metrics
from server.settings import load_settings
from server.wiring import open_parts

KINDS = {"NUM": "How many are there of {}", "LOC": "Where on earth is {}", "HUM": "Who ever wrote {}"}
THINGS = ("whales", "Lima", "Emma", "opals", "quarks", "tulips")


@pytest.fixture
def examples(tmp_path):
    rows = [
        {
            "id": f"{label}{at}",
            "input": text.format(f"{thing} {thing}s {at}"),
            "output": label,
            "label": label,
        }
        for label, text in KINDS.items()
        for at, thing in enumerate(THINGS)
    ]
    file = tmp_path / "examples.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(tmp_path, *arguments):
    environ = {
        "FEWSHOT_RETRIEVAL_EMBEDDER": "hash",
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_PATHS_POOLS": str(tmp_path / "pools"),
        "FEWSHOT_CACHE_DIR": str(tmp_path),
    }
    return CliRunner().invoke(main, ["prompts", "pool", *map(str, arguments)], env=environ)


def test_build_show_and_serve(tmp_path, examples):
    held = tmp_path / "held.jsonl"
    held.write_text(json.dumps({"question": "how many are there of whales whaless 0?"}) + "\n")
    built = run(tmp_path, "build", examples, "--name", "kinds", "--forbidden", held, "--per-label", 5)
    assert built.exit_code == 0, built.output
    assert built.output.startswith("kinds@1: 15 demonstrations in ")
    assert "1 forbidden, 2 label cap" in built.output
    again = run(tmp_path, "build", examples, "--name", "kinds", "--forbidden", held, "--per-label", 5)
    assert "kinds@1 is exactly this already" in again.output
    shown = run(tmp_path, "show", "kinds")
    assert "labels       HUM 5, LOC 5, NUM 5" in shown.output
    assert "gate         0." in shown.output
    said = json.loads(run(tmp_path, "show", "kinds@1", "--json").output)
    settings = load_settings(
        environ={},
        overrides={
            "paths": {"data": tmp_path, "cache": tmp_path, "pools": tmp_path / "pools"},
            "engine": {"kind": "echo"},
            "retrieval": {"embedder": "hash"},
        },
    )

    async def served():
        async with open_parts(settings, Metrics()) as opened:
            return opened.parts.demos.sha256_of("kinds@1")

    assert asyncio.run(served()) == said["digest"]
    demos = tmp_path / "pools" / "kinds" / "1" / "demos.jsonl"
    demos.write_text(demos.read_text().replace("Lima", "Rome"))
    assert "edited" in run(tmp_path, "show", "kinds").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nothing"), "none of that name"),
        (("show", "kinds@3"), "no pool kinds@3"),
        (("build", "EXAMPLES", "--name", "Kinds of"), "lower-case words"),
        (("build", "EXAMPLES", "--name", "x", "--forbidden", "BAD"), "line 1"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, examples, arguments, says):
    (tmp_path / "bad.jsonl").write_text("[]\n")
    named = {"EXAMPLES": examples, "BAD": tmp_path / "bad.jsonl"}
    done = run(tmp_path, *(named.get(one, one) for one in arguments))
    assert done.exit_code == 1
    assert says in done.output


def test_templates_are_still_there():
    listed = CliRunner().invoke(main, ["prompts", "list"])
    assert listed.exit_code == 0
    assert len(listed.output.splitlines()) == len(list(Library.load()))
