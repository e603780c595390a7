"""A short run of everything at once, and that what is wrong is seen."""

import asyncio
import random

import pytest

from bench.chaos import chaos, settle
from bench.mortal import Run, Server, Tenant, asking, documents
from indexer.database import open_database
from server.keys import Keys, read_secret


@pytest.mark.slow
def test_documents_that_come_and_go_are_what_was_acknowledged(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    told = asyncio.run(chaos(data, 0.05, 5, 1, lambda _: None))
    assert told["wrong"] == []
    assert told["answered_of_admitted"] == 1.0
    assert told["asked"]["answered"] > 0
    assert told["documents"]["acme"]["kept"] > 0


def test_a_lost_document_and_one_that_is_back_are_seen(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    known = Keys(open_database(data / "journal.db"), pepper=read_secret(data))
    tenants = [
        Tenant(name, known.create(tenant=name, scopes=["infer", "files"])) for name in ("acme", "umbrella")
    ]

    async def work():
        run = Run(Server(data), float("inf"), random.Random(1))
        run.server.start()
        try:
            await run.server.back()
            for tenant in tenants:
                coming = asyncio.create_task(documents(run, tenant))
                while not tenant.kept:  # noqa: ASYNC110  a dictionary tells nobody
                    await asyncio.sleep(0.05)
                coming.cancel()
            there = next(iter(tenants[0].kept))
            tenants[0].deleted.add(there)
            tenants[0].kept = {"acmeword999": "file-x"}
            await settle(run, tenants)
        finally:
            run.server.child.kill()
            await run.server.gone()
        return run.wrong, there

    wrong, there = asyncio.run(work())
    assert wrong == ["acme: acmeword999 is lost", f"acme: {there} is back"]


def test_who_is_cut_off_was_let_in_and_who_cannot_connect_was_not(tmp_path):
    async def work():
        server = Server(tmp_path)
        run = Run(server, asyncio.get_running_loop().time() + 0.3, random.Random(1))
        await asking(run, "key", 20)
        connected = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", server.port)
        again = Run(server, asyncio.get_running_loop().time() + 0.3, random.Random(1))
        async with connected:
            await asking(again, "key", 20)
        return run.asked, again.asked

    nobody, cut = asyncio.run(work())
    assert set(nobody) == {"not connected"}
    assert set(cut) == {"cut off"}
