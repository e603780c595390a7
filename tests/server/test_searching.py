"""`fewshot prompts search` with a decoder of its own; what it writes passes lint."""

import asyncio
import json
import tomllib

import pytest
from click.testing import CliRunner

from indexer.hash_embedder import HashEmbedder
from prompts.cli import prompts as plain_prompts
from prompts.demos import Pool
from prompts.listing import Listing
from prompts.records import Demo
from prompts.search.running import search
from prompts.search.splits import Splits
from prompts.templates import SHIPPED, Library
from server.asked_model import AskedModel
from server.cli import main
from server.searching import write_results
from tests.server.test_classify import Spelling

LETTERS = {"ABBR": "a", "DESC": "d", "ENTY": "e", "HUM": "h", "LOC": "l", "NUM": "n"}
KINDS = Library.load().get("question-type@1")


def item(name, at):
    label = list(LETTERS)[at % 6]
    return Demo(f"{name}{at}", f"{LETTERS[label] * (6 + at % 4)} {name} {at}", label, label)


def test_labels_and_answers_are_judged_by_the_decoder():
    with asyncio.Runner() as runner:
        model = AskedModel(Spelling(reply="Twelve hours."), runner)
        some = [item("x", at) for at in range(6)]
        assert model.right(KINDS, some) == [1.0] * 6
        assert model.right(KINDS, [Demo("y", "aaaaaaaaaa", "LOC", "LOC")]) == [0.0]
        assert model.tokens(KINDS, some[0]) > 100
        asked = Library.load().get("few-shot")
        assert model.right(
            asked, [Demo("q", "How long?", "twelve hours"), Demo("r", "How long?", "six")]
        ) == [1, 0]
        shown = model.right(KINDS, some[:1], [[Demo("d", "llllllll", "LOC", "LOC")]])
        assert shown == [1.0]
        assert model.tell("Say it again.", 1) == "Twelve hours."


def test_what_a_search_writes_can_be_used_as_it_is(tmp_path):
    splits = Splits(*(tuple(item(name, at) for at in range(60)) for name in ("s", "t", "u")))
    vectors = HashEmbedder().passages([demo.input for demo in splits.demos])
    with asyncio.Runner() as runner:
        model = AskedModel(Spelling(), runner)
        told = iter(range(1000))
        found = search(
            tomllib.loads((SHIPPED / "question-type" / "1.toml").read_text()),
            splits,
            model,
            lambda request, seed: f"Say which kind of thing number {next(told)} is asked for.",
            pool=Pool(Listing(splits.demos, "d", ()), vectors=vectors, embed=HashEmbedder().passages),
            budget_tokens=900_000,
        )
    about = {"template": KINDS.reference, "model": "echo", "seed": 7, "openings": 2}
    written = write_results(tmp_path, KINDS, found, splits, about)
    assert {path.name for path in written} >= {"report.md", "search.json", "search.png"}
    report = json.loads((tmp_path / "search.json").read_text())
    assert report["held_out"]["original"]["accuracy"]["mean"] == 1.0
    assert "2 times" in (tmp_path / "report.md").read_text()
    if found.winner.proposer != "original":
        linted = CliRunner().invoke(plain_prompts, ["lint", str(tmp_path)])
        assert "question-type/2.toml" not in linted.output
        assert Library.load(tmp_path).get("question-type@2").digest == found.winner.template.digest


def test_the_command_searches_and_counts_the_openings(tmp_path):
    for name in ("demos", "search", "held_out"):
        rows = [item(name, at) for at in range(40)]
        lines = [{"text": row.input, "label_name": row.label} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    environ = {
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_ENGINE_KIND": "echo",
        "FEWSHOT_ENGINE_ECHO_REPLY": "Tell me which kind of answer is wanted here.",
        "FEWSHOT_CACHE_DIR": str(tmp_path),
    }
    command = [
        "prompts",
        "search",
        "question-type@1",
        "--data",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    first = CliRunner().invoke(main, [*command, "--budget", "2000000"], env=environ)
    assert first.exit_code == 0, first.output
    assert "| on held-out items |" in first.stdout
    again = CliRunner().invoke(main, [*command, "--budget", "2000000", "--json"], env=environ)
    assert json.loads(again.stdout)["openings"] == 2
    small = CliRunner().invoke(main, [*command, "--budget", "50"], env=environ)
    assert small.exit_code == 1
    assert "allow more tokens" in small.output


@pytest.mark.parametrize("name", ["nothing", "question-type@9"])
def test_a_template_that_is_not_there_is_named(tmp_path, name):
    done = CliRunner().invoke(
        main, ["prompts", "search", name, "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 1
    assert name in done.output
