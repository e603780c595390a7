"""Reads untrusted documents in a killable child: the parent never parses.

A warm fork server (`indexer.reading.child`) forks one child per document under limits of memory,
time, open files and, where the host allows it, without a network.
"""

import os
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from indexer import errors
from indexer.reading.child import HEADER
from indexer.records import Document, Reading, Section

BASE_SECONDS = 10.0
SECONDS_PER_MIB = 1.0
MOST_SECONDS = 300.0
MOST_BYTES = 256 << 20
MOST_SERVERS = 4


def servers_here() -> int:
    """How many documents are worth reading at once: a core is left to what embeds them."""
    return max(1, min(MOST_SERVERS, (os.cpu_count() or 1) - 1))


class Sandbox:
    """A `Reader` that survives whatever it reads. Calls from several threads share the fork servers."""

    def __init__(self, base_seconds: float = BASE_SECONDS, servers: int = 1) -> None:
        """At most `servers` documents are read at once; a fork server starts when it is first needed."""
        self._base_seconds = base_seconds
        self._servers = [_Server() for _ in range(servers)]
        self._free: queue.LifoQueue[_Server] = queue.LifoQueue()  # the warm one first
        for server in reversed(self._servers):
            self._free.put(server)

    @property
    def isolated(self) -> bool:
        """Whether readers are cut off from the network; known after the first document."""
        return any(server.isolated for server in self._servers)

    def __call__(self, data: bytes, name: str, first_line: int = 1) -> Reading:
        """All documents in `data`; raises a subclass of `Unreadable`."""
        if len(data) > MOST_BYTES:
            raise errors.UnsafeDocument(
                f"{len(data) >> 20} MiB: at most {MOST_BYTES >> 20} MiB are read; split it"
            )
        seconds = min(MOST_SECONDS, self._base_seconds + SECONDS_PER_MIB * len(data) / (1 << 20))
        request = orjson.dumps({"name": name, "first_line": first_line, "seconds": seconds})
        server = self._free.get()
        try:
            answer = server.ask(request, data)
        except (OSError, EOFError) as error:
            server.stop()
            raise errors.ReaderStopped("the reading process died; ingest the file again") from error
        finally:
            self._free.put(server)
        return _reading(answer)

    def close(self) -> None:
        """Stop the fork servers, each after the document it is reading."""
        for _ in self._servers:
            server = self._free.get()
            server.stop()
        for server in reversed(self._servers):
            self._free.put(server)


class _Server:
    """One fork server, for one thread at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.isolated = False

    def ask(self, request: bytes, data: bytes) -> dict[str, Any]:
        """Its answer; raises OSError or EOFError when it died."""
        server = self.process or self._start()
        assert server.stdin is not None  # opened with PIPE
        server.stdin.write(HEADER.pack(len(request), len(data)) + request)
        server.stdin.write(data)
        server.stdin.flush()
        return self._receive(server)

    def _receive(self, server: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert server.stdout is not None  # opened with PIPE
        head = server.stdout.read(HEADER.size)
        if len(head) < HEADER.size:
            raise EOFError
        answer: dict[str, Any] = orjson.loads(server.stdout.read(HEADER.unpack(head)[0]))
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",  # thread pools grow with cores and eat address space
            "MALLOC_ARENA_MAX": "2",
            "LC_ALL": "C.UTF-8",
        }
        server = subprocess.Popen(
            [sys.executable, "-m", "indexer.reading.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        self.process = server
        self.isolated = bool(self._receive(server)["isolated"])
        return server

    def stop(self) -> None:
        """The end of its input ends a living one; one that does not listen is killed."""
        server, self.process = self.process, None
        if server is None:
            return
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                with suppress(OSError):  # what a dead server did not read cannot be flushed
                    pipe.close()
        try:
            server.wait(timeout=1)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _reading(answer: Mapping[str, Any]) -> Reading:
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    documents = tuple(
        Document(title, tuple(map(_section, sections)), kind, external_id, attributes)
        for title, sections, kind, external_id, attributes in answer["documents"]
    )
    return Reading(documents, tuple(answer["errors"]), tuple(answer["warnings"]))


def _section(values: Sequence[Any]) -> Section:
    text, page, headings, lead = values
    return Section(text, page, tuple(headings), lead)
