"""What was deleted leaves the journal too."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from indexer.commands.verify import verify
from indexer.database import open_database
from indexer.hash_embedder import HashEmbedder
from indexer.search import Searcher
from server.cli import OF_STORES, main
from server.journal import Journal
from server.records import Piece
from tests.server.samples import SOURCE, chat_turn, plan_of, reply_to

CANARY = "zanzibar quetzalcoatl 7f3a99c1"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command with its data in a folder of the test, named in a settings file alone."""
    monkeypatch.delenv("FEWSHOT_DATA_DIR", raising=False)
    config = tmp_path / "fewshot.toml"
    config.write_text(
        f'[paths]\ndata = {json.dumps(str(tmp_path / "data"))}\n[retrieval]\nembedder = "hash"\n'
    )

    def call(*arguments: str):
        return CliRunner().invoke(main, ["--config", str(config), *arguments])

    return call


@pytest.fixture
def told(run, tmp_path):
    """A store with the canary, and a journal with a turn that used it and one that did not."""
    (tmp_path / "secret.txt").write_text(f"The word is {CANARY}.")
    (tmp_path / "other.txt").write_text("Nothing of it here.")
    for name in ("secret.txt", "other.txt"):
        assert run("ingest", str(tmp_path / name), "--store", "docs").exit_code == 0
    searcher = Searcher(tmp_path / "data", HashEmbedder())
    hits = {hit.filename: hit for hit in searcher.search("word here", ["docs"]).hits}
    searcher.close()
    journal = Journal(open_database(tmp_path / "data" / "journal.db"), secret=b"s")

    async def turn(name: str, text: str) -> None:
        hit = hits[name]
        source = SOURCE._replace(chunk_id=hit.chunk_id)
        plan = plan_of(chat_turn(id=name), sources=(source,))
        await journal.expose(plan.turn)
        reply = reply_to(plan, [Piece(text=text, tokens=(5, 6), finish="stop")])
        async with journal.recording(plan, lambda outcome: reply):
            pass

    asyncio.run(turn("secret.txt", f"It is {CANARY}."))
    asyncio.run(turn("other.txt", "Nothing."))
    journal.close()
    return tmp_path / "data"


def test_a_deleted_file_leaves_the_store_the_disk_and_the_journal(told, run):
    assert run("stores", "delete", "docs", "--file", "secret.txt", "--purge").exit_code == 0
    assert (
        "table replies, column texts"
        in CliRunner().invoke(verify, ["--erase-check", CANARY, "--data", str(told)]).stdout
    )
    done = run("erase")
    assert (done.exit_code, "1 turns of the journal emptied" in done.stdout) == (0, True), done.output
    left = CliRunner().invoke(verify, ["--erase-check", CANARY, "--data", str(told)])
    assert left.stdout == "not found\n"
    journal = Journal(open_database(told / "journal.db"), secret=b"s")
    assert journal.find("other.txt")["replies.texts"] == '["Nothing."]'
    assert journal.find("secret.txt")["plans.prompt_sha256"]
    journal.close()


def test_one_command_erases_everywhere_and_can_be_repeated(told, run):
    done = run("erase", "docs", "--yes")
    assert done.exit_code == 0, done.output
    assert "store 'docs' deleted" in done.stdout
    assert "2 turns of the journal emptied" in done.stdout
    assert CliRunner().invoke(verify, ["--erase-check", CANARY, "--data", str(told)]).exit_code == 0
    assert "2 turns of the journal emptied" in run("erase").stdout  # turns may have been written late
    assert run("erase", "docs").exit_code == 1
    assert run("erase", "--file", "x").exit_code == 2


def test_the_settings_reach_every_command_of_stores(run):
    import indexer.commands.stores as commands

    assert sorted(OF_STORES) == sorted(commands.stores.commands)
    assert "no stores yet" in run("stores").stdout
    assert "no store 'docs'" in run("stores", "show", "docs").stderr
