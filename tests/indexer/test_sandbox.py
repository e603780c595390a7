"""The reading child: killed when it must be, and the next document is read all the same."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer.errors import ReaderStopped, UnsupportedFormat
from indexer.reading.reader import read
from indexer.sandbox import Sandbox
from tests.indexer.documents import docx, pdf


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()


def test_documents_come_back_as_they_were_read(sandbox):
    reading = sandbox(pdf("one", "two"), "x.pdf")
    assert [section.page for section in reading.documents[0].sections] == [1, 2]
    assert sandbox(docx("three"), "x.docx").documents[0].text == "three\n"


def test_a_reader_is_imported_for_its_first_document_and_then_kept(sandbox):
    sandbox(b"warm up", "a.txt")
    server = Path(f"/proc/{sandbox._servers[0].process.pid}/maps")
    assert "pdfium" not in server.read_text()
    sandbox(pdf("one"), "x.pdf")
    sandbox(b"and on", "b.txt")  # asked for after the import
    assert "pdfium" in server.read_text()


def test_refusals_come_back_as_their_class(sandbox):
    with pytest.raises(UnsupportedFormat, match="gzip"):
        sandbox(b"\x1f\x8b\x08...", "x.gz")


def test_what_a_section_stands_under_comes_back(sandbox):
    [document] = sandbox(b"# One\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "x.md").documents
    assert document == read(b"# One\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", "x.md").documents[0]
    assert document.sections[1].lead == "| a | b |\n|---|---|\n"


def test_a_reader_that_takes_too_long_is_killed_and_the_next_document_is_read():
    slow = Sandbox(base_seconds=0.3)
    try:
        sandbox_ready = slow(b"warm up", "a.txt")
        assert sandbox_ready.documents
        began = time.monotonic()
        with pytest.raises(ReaderStopped, match="longer than"):
            slow(b"<html>" + b"<table><tr><td rowspan=9 colspan=9>a</table>" * 12000, "slow.html")
        assert time.monotonic() - began < 5
        assert slow(b"still here", "b.txt").documents[0].text == "still here"
    finally:
        slow.close()


def test_a_dead_fork_server_fails_one_document_and_is_replaced(sandbox):
    sandbox(b"warm up", "a.txt")
    os.kill(sandbox._servers[0].process.pid, signal.SIGKILL)
    with pytest.raises(ReaderStopped):
        sandbox(b"unlucky", "b.txt")
    assert sandbox(b"lucky", "c.txt").documents[0].text == "lucky"


def test_the_seconds_of_a_busy_child_are_those_of_the_processor(sandbox):
    from indexer.reading.child import _processor_seconds

    before = _processor_seconds(os.getpid())
    while time.process_time() % 0.2 < 0.1:
        pass
    assert _processor_seconds(os.getpid()) >= before >= 0
    assert _processor_seconds(2**22 + 1) == 0.0


def test_several_servers_read_at_once_and_a_dead_one_fails_its_document_alone():
    several = Sandbox(servers=3)
    try:
        slow = b"<html>" + b"<p>ducks</p>" * 20_000
        with ThreadPoolExecutor(3) as threads:
            readings = list(threads.map(lambda n: several(slow, f"{n}.html"), range(6)))
        assert len({reading.documents[0].text for reading in readings}) == 1
        running = [server.process.pid for server in several._servers if server.process is not None]
        assert len(running) > 1
        os.kill(running[0], signal.SIGKILL)
        outcomes = []
        with ThreadPoolExecutor(3) as threads:
            for future in [threads.submit(several, b"text", "a.txt") for _ in range(9)]:
                outcomes.append(type(future.exception()))
        assert outcomes.count(ReaderStopped) <= 1
        assert set(outcomes) <= {ReaderStopped, type(None)}
    finally:
        several.close()
    assert all(server.process is None for server in several._servers)
