"""The fork server that reads untrusted documents: `python -m indexer.reading.child`.

A process of one thread that does nothing but fork. Each request on standard input is answered on
standard output; each document is read by a fresh child under limits, and the child dies with its process
group when time is up. A child that had to import a reader says so with its status: the server then
imports that too, and the next document of the kind is read without.
"""

import ctypes
import os
import resource
import select
import signal
import struct
import sys
import time
from importlib import import_module
from typing import Any, BinaryIO, NoReturn

import orjson

from indexer import errors
from indexer.reading.reader import MODULES, read
from indexer.records import Document, Reading

HEADER = struct.Struct(">QQ")  # lengths of the JSON part and of the bytes after it
ADDRESS_BYTES = 1 << 30
OPEN_FILES = 32
LARGEST_ANSWER_BYTES = 512 << 20
IDLE_SHARE = 0.1  # a child that used less of the clock than this waits for nothing
MOST_WAITS = 6  # times its seconds on the clock, however busy the machine is
_IMPORTED = {0: "", **dict(enumerate(MODULES, start=64))}  # by exit status of a child that has answered
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main() -> None:
    """Serve requests until standard input ends."""
    isolated = ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0  # no network, where allowed
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _send(sink, {"isolated": isolated})
    while head := source.read(HEADER.size):
        request_bytes, data_bytes = HEADER.unpack(head)
        request = orjson.loads(source.read(request_bytes))
        answer, imported = _run(request, source.read(data_bytes))
        _send(sink, answer)
        if imported:
            import_module(imported)


def _send(sink: BinaryIO, answer: dict[str, Any] | bytes) -> None:
    content = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    sink.write(HEADER.pack(len(content), 0) + content)
    sink.flush()


def _run(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any] | bytes, str]:
    """Fork, read, wait as long as is allowed; the answer, and which of `MODULES` the child imported or ""."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        os.close(receiving)
        _read_and_exit(request, data, sending)
    os.close(sending)
    patience = _Patience(child, request["seconds"])
    parts: list[bytes] = []
    size = 0
    try:
        while patience.lasts():
            if not select.select([receiving], [], [], 0.1)[0]:
                continue
            part = os.read(receiving, 1 << 20)
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER_BYTES:
                return {"error": "UnsafeDocument", "message": "its text is too large; split the file"}, ""
            if not part:
                break
        while patience.lasts():  # it may close the pipe and stay
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                child = 0
                imported = _IMPORTED.get(os.waitstatus_to_exitcode(status))
                if size and imported is not None:
                    return b"".join(parts), imported
                return _stopped(status, request["seconds"]), ""
            time.sleep(0.001)
        return _stopped(signal.SIGXCPU, request["seconds"]), ""
    finally:
        os.close(receiving)
        if child:
            _kill(child)


class _Patience:
    """Time for one child: `seconds` of processor time, and no idling past `seconds` on the clock.

    On a busy machine a child that works is given its share of the processor, not of the clock.
    """

    def __init__(self, child: int, seconds: float) -> None:
        self._child, self._seconds = child, seconds
        self._began = time.monotonic()

    def lasts(self) -> bool:
        passed = time.monotonic() - self._began
        if passed < self._seconds:
            return True
        used = _processor_seconds(self._child)
        return used < self._seconds and used > IDLE_SHARE * passed and passed < MOST_WAITS * self._seconds


def _processor_seconds(child: int) -> float:
    try:
        with open(f"/proc/{child}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _kill(child: int) -> None:
    for kill in (os.killpg, os.kill):  # the group exists only once the child has called setsid
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(child, 0)


def _stopped(status: int, seconds: float) -> dict[str, Any]:
    if status & 0x7F in (signal.SIGXCPU, signal.SIGKILL):
        return {
            "error": "ReaderStopped",
            "message": f"reading took longer than {seconds:.0f} s and was stopped",
        }
    return {
        "error": "ReaderStopped",
        "message": f"the reader died on it (status {status}): damaged or hostile file",
    }


def _read_and_exit(request: dict[str, Any], data: bytes, sending: int) -> NoReturn:
    status, before = 1, set(sys.modules)
    try:
        os.setsid()
        seconds = int(request["seconds"]) + 1
        for which, limit in (
            (resource.RLIMIT_AS, ADDRESS_BYTES + 2 * len(data)),
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_NOFILE, OPEN_FILES),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            resource.setrlimit(which, (limit, limit))
        with os.fdopen(sending, "wb") as sink:
            sink.write(orjson.dumps(_answer(request, data)))
        status = next(
            (code for code, module in _IMPORTED.items() if module in sys.modules.keys() - before), 0
        )
    finally:
        os._exit(status)  # never return into the server's loop


def _answer(request: dict[str, Any], data: bytes) -> dict[str, Any]:
    try:
        reading = read(data, request["name"], request["first_line"])
    except errors.Unreadable as error:
        return {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"error": "ReaderStopped", "message": "reading needed more memory than a document may use"}
    except RecursionError:
        return {"error": "UnsafeDocument", "message": "nested too deeply"}
    except Exception as error:  # a reader's bug on hostile bytes must name the file, not stop the batch
        return {"error": "DamagedDocument", "message": f"cannot be read ({type(error).__name__}: {error})"}
    return as_json(reading)


def as_json(reading: Reading) -> dict[str, Any]:
    """A reading as plain values, for the pipe."""
    return {
        "documents": [_document(document) for document in reading.documents],
        "errors": reading.errors,
        "warnings": reading.warnings,
    }


def _document(document: Document) -> list[Any]:
    sections = [[part.text, part.page, part.headings, part.lead] for part in document.sections]
    return [document.title, sections, document.kind, document.external_id, dict(document.attributes)]


if __name__ == "__main__":
    main()
