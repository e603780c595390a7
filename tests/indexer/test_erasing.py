"""S14: erased canaries leave no byte, whatever was killed in between; the check finds what is left."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from indexer.catalogue import FILE, Catalogue
from indexer.commands.stores import stores
from indexer.commands.verify import verify
from indexer.database import open_database, writing
from indexer.deleting import delete_file, find_file
from indexer.erasure import purge
from indexer.segments import stores_folder, write_segment
from indexer.traces import traces

CANARY = "zanzibar quetzalcoatl 7f3a99c1 ürümqi"  # not ASCII: JSON may write it otherwise
LONG = " ".join(f"filler{n}" for n in range(4000))

# Dies at the n-th statement or removal of a folder, counted from the start of the command.
KILLED = """
import os, shutil, sys
import sqlalchemy as sa
from indexer.commands.stores import stores

left = int(sys.argv.pop(1))
def strike(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
sa.event.listen(sa.Engine, "before_cursor_execute", strike)
rmtree = shutil.rmtree
def slow(*arguments, **options):
    strike()
    rmtree(*arguments, **options)
shutil.rmtree = slow
stores()
"""


@pytest.fixture
def written(put, folder, data):
    """A store with the canary in a short file, a long one, a row's text and a row's attribute."""
    (folder / "short.txt").write_text(f"The word is {CANARY}.")
    (folder / "long.txt").write_text(f"{LONG} {CANARY} {LONG}")
    rows = [{"id": str(n), "text": f"row {n} is innocent"} for n in range(50)]
    rows[7] |= {"text": f"row 7 says {CANARY}", "note": CANARY}
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "innocent.txt").write_text("zanzibar is far, so is ürümqi; quetzalcoatl was a god.")
    put()
    return data


def erase(data: Path, *arguments: str):
    return CliRunner().invoke(stores, ["delete", "docs", *arguments, "--data", str(data)])


def check(data: Path, text: str = CANARY):
    return CliRunner().invoke(verify, ["--erase-check", text, "--data", str(data)])


def test_the_check_says_where_the_text_is(written):
    found = check(written)
    assert found.exit_code == 1
    for place in (FILE, "table documents, column text", "table documents, column attributes", "table chunks"):
        assert place in found.stdout
    assert check(written, "a text that nobody wrote 5b1c").exit_code == 0
    assert check(written, " ").exit_code == 2


def test_after_delete_and_purge_not_a_byte_is_left(written, searcher):
    assert searcher.search(CANARY, ["docs"]).hits
    for name in ("short.txt", "long.txt"):
        assert erase(written, "--file", name).exit_code == 0
    assert erase(written, "--document", "7").exit_code == 0
    assert all(CANARY not in hit.text for hit in searcher.search(CANARY, ["docs"]).hits)
    assert check(written).exit_code == 1  # dead, but on the disk
    done = CliRunner().invoke(stores, ["purge", "docs", "--data", str(written)])
    assert done.exit_code == 0
    assert check(written).stdout == "not found\n"
    assert searcher.search("innocent", ["docs"]).hits
    assert CliRunner().invoke(verify, ["--data", str(written)]).exit_code == 0


def test_a_whole_store_leaves_not_a_byte(written):
    done = erase(written, "--purge", "--yes")
    assert (done.exit_code, "store 'docs' deleted" in done.stdout) == (0, True)
    assert check(written).stdout == "not found\n"
    assert check(written, "filler17").stdout == "not found\n"


def test_an_older_version_of_a_file_leaves_too(written, put, folder):
    (folder / "short.txt").write_text("The word is withdrawn.")
    (folder / "long.txt").unlink()
    (folder / "rows.jsonl").unlink()
    put()
    for name in ("long.txt", "rows.jsonl"):
        erase(written, "--file", name)
    assert check(written).exit_code == 1
    CliRunner().invoke(stores, ["purge", "--data", str(written)])
    assert check(written).stdout == "not found\n"


@pytest.mark.parametrize(
    "points", [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_killed_between_the_next_purge_completes(written, points):
    chance = random.Random(points)
    command = [sys.executable, "-c", KILLED]
    ends = ["delete", "docs", "--file", "long.txt", "--purge", "--data", str(written)]
    purging = ["purge", "--data", str(written)]
    for name in ("short.txt",):
        erase(written, "--file", name)
    erase(written, "--document", "7")
    killed = 0
    for point in range(points):
        at = chance.randrange(60)
        which = ends if point == 0 else purging
        killed += (
            subprocess.run([*command, str(at), *which], capture_output=True, check=False).returncode == -9
        )
        catalogue = Catalogue(written)
        store = catalogue.store("docs")
        catalogue.close()
        assert store.name == "docs"
    assert killed > 0
    erase(written, "--file", "long.txt")
    done = CliRunner().invoke(stores, ["purge", "--data", str(written)])
    assert done.exit_code == 0, done.output
    assert check(written).stdout == "not found\n"
    assert CliRunner().invoke(verify, ["--data", str(written)]).exit_code == 0


def test_a_half_at_the_edge_of_a_page_is_found(tmp_path):
    page = 4096
    catalogue = Catalogue(tmp_path)
    catalogue.close()
    needle = CANARY.encode()
    blob = bytearray((tmp_path / FILE).read_bytes())
    start = len(blob)
    blob += bytes(page - len(needle) + 5) + needle[:-5] + bytes(4) + needle[-5:] + bytes(page)
    blob = blob[: start + 2 * page]
    (tmp_path / "copy.bin").write_bytes(blob)
    catalogue = Catalogue(tmp_path)
    assert [trace.what for trace in traces(catalogue, CANARY)] == [
        f"half of it at the edge of page {start // page + 1}"
    ]
    catalogue.close()


def test_entries_of_a_keyword_index_that_belong_to_no_chunk_are_found(written, put, folder, catalogue):
    import numpy as np

    from indexer.generations import add_segment

    store = catalogue.store("docs")
    for name in ("short.txt", "long.txt", "rows.jsonl"):
        delete_file(catalogue, catalogue.store("docs"), find_file(catalogue, store, name))
    purge(catalogue)
    assert list(traces(catalogue, CANARY)) == []
    ids = np.array([10_000], dtype=np.int64)
    vectors = np.zeros((1, store.dimension), dtype=np.float32)
    digests = write_segment(stores_folder(catalogue.data, store.id), "stray", ids, vectors, [CANARY], {})
    with writing(catalogue.engine) as connection:
        add_segment(connection, store.current, "stray", ids, digests, store.generation)
    assert [trace.where for trace in traces(catalogue, CANARY)] == ["segment stray"]


def test_other_databases_under_the_folder_are_searched(written):
    engine = open_database(written / "journal.db")
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE replies (texts TEXT)")
        connection.exec_driver_sql("INSERT INTO replies VALUES (?)", (f"it said {CANARY}",))
    engine.dispose()
    erase(written, "--purge", "--yes")
    found = check(written).stdout
    assert "journal.db: table replies, column texts: 1 rows" in found
    assert "catalogue" not in found
