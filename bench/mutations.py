"""Generated damage against the readers: nothing may crash, hang or grow.

    python -m bench.mutations --data PACKS --count 10000 --seed 1

Each round takes a good file of e-documents, damages it in a way drawn from the seed, and reads it
in the sandbox. One JSON object tells how many ended how, with the seed of every round that did not end
as it should: `python -m bench.mutations --data PACKS --seed THAT --count 1` is that round again.
"""

import io
import json
import random
import re
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from indexer.errors import ReaderStopped, Unreadable
from indexer.sandbox import Sandbox

LARGEST_BYTES = 1 << 20  # of a file that is damaged: a round should take milliseconds
SLOWEST_SECONDS = 10.0
_HEADERS = (
    b"%PDF-1.7\n", b"PK\x03\x04", b"{\\rtf1", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"<?xml version='1.0'?>",
    b"<!doctype html>", b"From a@b Mon Jul 20 01:01:07 2015\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b",
    b"[{", b"",
)  # fmt: skip
_NUMBERS = (b"0", b"-1", b"1", b"65536", b"2147483647", b"4294967296", b"99999999999999999999", b"1e309")
_OPENERS = (
    (b"<div>", b"</div>"), (b"<b>", b""), (b"{", b"}"), (b"[", b"]"), (b"<a><![CDATA[", b""), (b"(", b")"),
    (b"> ", b""), (b"<table><tr><td>", b""), (b"{\\b ", b"}"), (b"<< /A ", b">>"),
)  # fmt: skip
_ELEMENT = re.compile(rb"<([A-Za-z][\w:.-]{0,40})[^<>]{0,200}>")


@dataclass
class Tally:
    """How the rounds ended."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)  # crashes, hangs, deaths of the child
    slowest_seconds: float = 0.0
    grown_mib: float = 0.0  # of this process, from after the first rounds to the end


Way = Callable[[random.Random, bytes], bytes]


def flip(chance: random.Random, data: bytes) -> bytes:
    """Other bits in up to 64 bytes."""
    mutable = bytearray(data)
    for _ in range(chance.randint(1, 64)):
        mutable[chance.randrange(len(mutable))] ^= 1 << chance.randrange(8)
    return bytes(mutable)


def overwrite(chance: random.Random, data: bytes) -> bytes:
    """A run of other bytes."""
    at, many = chance.randrange(len(data)), chance.randint(1, 512)
    return data[:at] + chance.randbytes(many) + data[at + many :]


def truncate(chance: random.Random, data: bytes) -> bytes:
    """Cut off anywhere."""
    return data[: chance.randrange(len(data))]


def splice(chance: random.Random, data: bytes) -> bytes:
    """A part of it somewhere else in it, in place of what is there or beside it."""
    start, to = chance.randrange(len(data)), chance.randrange(len(data))
    part = data[start : start + chance.randint(1, 4096)]
    return data[:to] + part + data[to + chance.choice((0, len(part))) :]


def repeat(chance: random.Random, data: bytes) -> bytes:
    """A part of it many times."""
    start = chance.randrange(len(data))
    part = data[start : start + chance.randint(1, 256)]
    return data[:start] + part * chance.choice((2, 100, 2000)) + data[start:]


def remove(chance: random.Random, data: bytes) -> bytes:
    """A part of it left out."""
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.randint(1, 4096) :]


def renumber(chance: random.Random, data: bytes) -> bytes:
    """Some of its decimal numbers replaced by awkward ones."""
    found = [match.span() for match in re.finditer(rb"\d+", data[: 1 << 18])]
    for start, end in sorted(chance.sample(found, min(len(found), chance.randint(1, 6))), reverse=True):
        data = data[:start] + chance.choice(_NUMBERS) + data[end:]
    return data


def nest(chance: random.Random, data: bytes) -> bytes:
    """Brackets or elements opened thousands of times somewhere."""
    opener, closer = chance.choice(_OPENERS)
    deep = chance.choice((50, 400, 3000, 30000))
    at = chance.randrange(len(data))
    return data[:at] + opener * deep + chance.choice((b"x", b"")) + closer * deep + data[at:]


def multiply(chance: random.Random, data: bytes) -> bytes:
    """An element repeated, or put into itself."""
    found = list(_ELEMENT.finditer(data[: 1 << 18]))
    if not found:
        return repeat(chance, data)
    start = chance.choice(found)
    end = data.find(b"</" + start[1] + b">", start.end())
    stop = end + len(start[1]) + 3 if end >= 0 else start.end()
    element = data[start.start() : stop]
    many = chance.choice((1, 30, 300))
    if chance.random() < 0.5 and end >= 0:
        return data[: start.end()] + element * many + data[start.end() :]
    return data[: start.start()] + start[0] * many + data[start.start() :]


def behead(chance: random.Random, data: bytes) -> bytes:
    """The beginning of another format."""
    header = chance.choice(_HEADERS)
    return header + data[chance.choice((0, len(header), 64)) :]


def repack(chance: random.Random, data: bytes) -> bytes:
    """A zip container with one member damaged and its checksum right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(entry, archive.read(entry)) for entry in archive.infolist()]
    except (zipfile.BadZipFile, zlib.error, OSError):
        return flip(chance, data)
    chosen = chance.randrange(len(members))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for at, (entry, content) in enumerate(members):
            if at == chosen:
                ways: Sequence[Way] = (
                    flip,
                    overwrite,
                    truncate,
                    splice,
                    repeat,
                    remove,
                    renumber,
                    nest,
                    multiply,
                )
                content = chance.choice(ways)(chance, content) if content else b"x"
                if chance.random() < 0.1:
                    continue
            archive.writestr(entry.filename, content)
    return out.getvalue()


def misdirect(chance: random.Random, data: bytes) -> bytes:
    """Other sizes, offsets or flags in the headers of a zip container."""
    marks = [found.start() for found in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", data)]
    if not marks:
        return flip(chance, data)
    mutable = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.choice(marks) + chance.randrange(4, 46, 2)
        if at + 4 <= len(mutable):
            struct.pack_into("<I", mutable, at, chance.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)))
    return bytes(mutable)


PLAIN: tuple[Way, ...] = (flip, overwrite, truncate, splice, repeat, remove, renumber, nest, multiply, behead)
ZIPPED: tuple[Way, ...] = (*PLAIN, repack, repack, repack, repack, repack, repack, misdirect, misdirect)


def mutated(seed: int, files: Mapping[str, bytes]) -> tuple[str, str, bytes]:
    """The name of a file, the way it is damaged and the damaged bytes, decided by the seed alone."""
    chance = random.Random(seed)
    names = sorted(files)
    weights = [1 / max(1, len(files[name]) >> 16) for name in names]  # small ones oftener: they are quicker
    name = chance.choices(names, weights)[0]
    data = files[name]
    way = chance.choice(ZIPPED if data.startswith(b"PK") else PLAIN)
    return name, way.__name__, way(chance, data) if data else data


def run(files: Mapping[str, bytes], seeds: Iterator[int], told: Callable[[Tally], None]) -> Tally:
    """Read one damaged file per seed; `told` hears after each."""
    tally = Tally()
    sandbox = Sandbox()
    before = 0
    try:
        for number, seed in enumerate(seeds):
            name, way, data = mutated(seed, files)
            began = time.monotonic()
            problem = ""
            try:
                reading = sandbox(data, name)
                outcome = "errors" if reading.errors else "warned" if reading.warnings else "read"
            except ReaderStopped as error:
                outcome = problem = "ReaderStopped: " + re.sub(r"\d+", "N", str(error))
            except Unreadable as error:
                outcome = type(error).__name__
            except Exception as error:
                outcome = problem = f"crash: {type(error).__name__}"
            seconds = time.monotonic() - began
            tally.outcomes[outcome] += 1
            tally.slowest_seconds = max(tally.slowest_seconds, seconds)
            if problem or seconds > SLOWEST_SECONDS:
                tally.wrong.append(
                    {"seed": seed, "file": name, "way": way, "what": problem, "seconds": round(seconds, 1)}
                )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            before = peak if number < 20 else before
            tally.grown_mib = (peak - before) / 1024
            told(tally)
    finally:
        sandbox.close()
    return tally


def good_files(data: Path) -> dict[str, bytes]:
    """The good files of the pack e-documents that are quick enough to read thousands of times."""
    folder = data / "e-documents" / "dev" / "good"
    sizes = {path: path.stat().st_size for path in sorted(folder.iterdir())}
    return {
        path.name: path.read_bytes()
        for path, size in sizes.items()
        if size <= LARGEST_BYTES and path.name != "handbook-872p.docx"  # 872 pages take seconds
    }


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--count", default=10_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(data: Path, count: int, seed: int) -> None:
    """Print how the rounds ended; exit code 1 if one crashed, hung or lost its child."""
    done = shown = 0

    def told(tally: Tally) -> None:
        nonlocal done, shown
        done += 1
        if len(tally.wrong) > shown:
            shown = len(tally.wrong)
            print(tally.wrong[-1], file=sys.stderr, flush=True)
        if done % 500 == 0:
            print(f"{done}: {dict(tally.outcomes)}, {len(tally.wrong)} wrong", file=sys.stderr, flush=True)

    tally = run(good_files(data), iter(range(seed, seed + count)), told)
    print(
        json.dumps(
            {
                "rounds": count,
                "seed": seed,
                "outcomes": dict(tally.outcomes.most_common()),
                "slowest_seconds": round(tally.slowest_seconds, 2),
                "grown_mib": round(tally.grown_mib, 1),
                "wrong": tally.wrong,
            },
            indent=1,
        )
    )
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
