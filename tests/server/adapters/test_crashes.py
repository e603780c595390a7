"""A8: killed at any moment, the registry has the old or the new, never a half."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from indexer.database import open_database
from server.adapters.book import Book
from server.adapters.intake import Bounds, Intake
from tests.server.adapters.making import BASE, write_lora

PROGRAM = """
import itertools, pathlib, sys
from indexer.database import open_database
from server.adapters.book import Book
from server.adapters.intake import Bounds, Intake
from server.adapters.shelf import Shelf
from server.errors import ServerError
from tests.server.adapters.making import BASE
data = pathlib.Path(sys.argv[1])
book = Book(open_database(data / "journal.db"), data / "adapters")
shelf = Shelf(data / "adapters", lambda: BASE, Bounds(), data / "inbox")
print("up", flush=True)
for turn in itertools.count():
    artefact = shelf.from_inbox("polite", None, str(turn % 4))
    book.add(artefact, by="t")
    book.bind("support", artefact.reference, by="t")
    for entry in list(book.state().entries.values()):
        try:
            book.want(entry.artefact.reference, False, by="t")
            shelf.remove(book, entry.artefact.reference, by="t")
        except ServerError:
            pass
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_any_moment_nothing_is_half(tmp_path):
    for seed in range(4):
        write_lora(tmp_path / "inbox" / str(seed), seed=seed)
    draw = random.Random(8)
    seen = set()
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        time.sleep(draw.uniform(0.01, 0.8))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        book = Book(open_database(tmp_path / "journal.db"), tmp_path / "adapters")
        intake = Intake(tmp_path / "adapters", BASE, Bounds())
        state = book.state()
        for reference in state.aliases.values():
            entry = state.entries[reference]  # an alias means something that is there
            assert (
                intake.in_place(entry.artefact.name, entry.artefact.version).digest == entry.artefact.digest
            )
            seen.add(reference)
        for reference in state.entries:  # and whatever is in the book is whole on the disk
            intake.in_place(*reference.split("@"))
        for folder in (tmp_path / "adapters").glob("polite/*"):
            intake.in_place("polite", folder.name)
    assert len(seen) > 1
