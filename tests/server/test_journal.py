"""The journal: three rows a turn, whichever way it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from indexer.database import open_database, writing
from server.journal import Journal
from server.records import Piece
from server.token_bytes import token_bytes
from tests.server.samples import SOURCE, chat_turn, plan_of, reply_to


@pytest.fixture
def journal(tmp_path):
    opened = Journal(open_database(tmp_path / "journal.db"), secret=b"secret")
    yield opened
    opened.close()


def written(journal, turn_id="chatcmpl-1"):
    journal.wait()
    return journal.find(turn_id)


def test_an_exposure_is_on_disk_when_it_was_awaited(journal):
    async def scenario():
        await journal.expose(chat_turn(unit="user-17", unit_kind="user"))
        return journal.find("chatcmpl-1")

    row = asyncio.run(scenario())
    assert row["exposures.unit_kind"] == "user"
    assert "user-17" not in row["exposures.unit"]


def test_a_turn_that_is_refused_leaves_its_exposure(journal):
    asyncio.run(_await(journal.expose, chat_turn()))
    assert "plans.turn" not in written(journal)


@pytest.mark.parametrize("ending", ["whole", "failed", "cancelled"])
def test_the_reply_is_recorded_however_it_ends(journal, ending):
    plan = plan_of(chat_turn())
    pieces = [Piece(text="Hi", tokens=(5, 6), finish="stop")]

    async def scenario():
        await journal.expose(plan.turn)

        def reply(outcome):
            from dataclasses import replace

            whole = reply_to(plan, pieces)
            return replace(whole, outcome=outcome) if outcome else whole

        try:
            async with journal.recording(plan, reply):
                if ending == "failed":
                    raise RuntimeError("engine")
                if ending == "cancelled":
                    raise asyncio.CancelledError
        except (RuntimeError, asyncio.CancelledError):
            pass

    asyncio.run(scenario())
    row = written(journal)
    assert row["replies.outcome"] == ("stop" if ending == "whole" else ending)
    assert json.loads(row["replies.texts"]) == ["Hi"]
    assert np.frombuffer(row["replies.token_ids"], "<u4").tolist() == [5, 6]
    assert row["plans.prompt_ids"] == token_bytes(plan.prompts)


def test_with_digests_no_text_is_kept(tmp_path):
    journal = Journal(open_database(tmp_path / "quiet.db"), secret=b"s", keep="digests")
    plan = plan_of(chat_turn(metadata={"name": "secret text"}))

    async def scenario():
        await journal.expose(plan.turn)
        async with journal.recording(
            plan, lambda _: reply_to(plan, [Piece(text="secret text", finish="stop")])
        ):
            pass

    asyncio.run(scenario())
    row = written(journal)
    journal.close()
    assert row["plans.messages"] is None
    assert row["replies.texts"] is None
    assert "secret text" not in repr(row)
    assert row["replies.texts_sha256"]


def test_an_awaited_exposure_survives_kill_9(tmp_path):
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from indexer.database import open_database
        from server.journal import Journal
        from tests.server.samples import chat_turn

        async def main():
            journal = Journal(open_database(Path(sys.argv[1])), secret=b"s")
            for number in range(10_000):
                await journal.expose(chat_turn(id=f"chatcmpl-{number}"))
                sys.stdout.write(f"{number}\\n")
                sys.stdout.flush()

        asyncio.run(main())
    """)
    path = tmp_path / "journal.db"
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    last = -1
    for line in child.stdout:
        last = int(line)
        if last == 40:
            os.kill(child.pid, signal.SIGKILL)
            break
    rest = child.stdout.read().split()
    child.stdout.close()
    child.wait()
    last = max([last, *map(int, rest)])
    journal = Journal(open_database(path), secret=b"s")
    missing = [number for number in range(last + 1) if journal.find(f"chatcmpl-{number}") is None]
    journal.close()
    assert missing == []


async def _await(call, *arguments):
    await call(*arguments)


def test_erasing_a_chunk_empties_the_turns_that_used_it_and_keeps_their_fingerprints(journal):
    asyncio.run(_recorded(journal, "chatcmpl-1", [("ch_a", True), ("ch_b", False)]))
    asyncio.run(_recorded(journal, "chatcmpl-2", [("ch_b", True)]))
    before = written(journal, "chatcmpl-1")
    assert journal.erase(["ch_a", "ch_none"]) == 1
    after = written(journal, "chatcmpl-1")
    emptied = {"plans.messages", "plans.prompt_ids", "plans.asked", "plans.variables"}
    emptied |= {"replies.texts", "replies.token_ids"}
    assert {name for name in before if before[name] != after[name]} == {*emptied, "plans.erased_at"}
    assert {after[name] for name in emptied} == {None}
    assert written(journal, "chatcmpl-2")["replies.texts"] is not None
    assert journal.erase(["ch_a"]) == 1  # again, for a turn that was written late
    assert journal.erase([]) == 0


async def _recorded(journal, turn_id, chunks):
    sources = tuple(SOURCE._replace(chunk_id=chunk, n=int(used)) for chunk, used in chunks)
    plan = plan_of(chat_turn(id=turn_id), sources=sources)
    await journal.expose(plan.turn)
    async with journal.recording(
        plan, lambda outcome: reply_to(plan, [Piece(text="Hi", tokens=(5,), finish="stop")])
    ):
        pass


def test_a_row_that_cannot_be_written_takes_no_other_with_it(journal):
    orphan = plan_of(chat_turn(id="chatcmpl-orphan"))  # a plan whose exposure never came

    async def scenario():
        await journal.expose(chat_turn(id="chatcmpl-0"))
        with writing(journal._engine):  # so that the next rows wait and become one group
            first = journal.expose(chat_turn(id="chatcmpl-1"))
            journal.plan(orphan)
            second = journal.expose(chat_turn(id="chatcmpl-2"))
            await asyncio.sleep(0.1)
        await first
        await second

    asyncio.run(scenario())
    journal.wait()
    assert journal.find("chatcmpl-1")
    assert journal.find("chatcmpl-2")
    assert journal.dropped == 1
