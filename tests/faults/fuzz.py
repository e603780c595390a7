"""S7: any bytes into our own parsers, guided by the lines they reach.

    python -m tests.faults.fuzz TARGET [RUNS] [SEED] [FOLDER]

An input that reaches a step from line to line of ours that none reached before is kept, and changed further.
What a target may raise is in its table; anything else is a finding, as is a run of more than a second of the
processor, or the process growing by 256 MB. Findings are printed as JSON lines, with the input in
hexadecimal, and are the exit code. FOLDER keeps inputs between runs.

Not atheris: it has no wheels for the Pythons that are served on, and its speed comes from native code under
test. Here that is a parser of other people's (orjson, pydantic), which fuzz it themselves.
"""

import copy
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

from indexer.errors import FilterInvalid, Unreadable
from indexer.filters import parse_filter, read_filter
from indexer.hash_embedder import HashEmbedder
from indexer.reading.reader import read
from indexer.splitting import Splitting
from prompts.errors import PromptError
from prompts.experiment_files import parse_experiment
from prompts.listing import parse_lines
from server.adapters.manifest import read_manifest
from server.adapters.peft_config import read_peft_config
from server.adapters.tensor_files import check_finite, read_header
from server.call_reading import ListReader
from server.errors import ServerError
from server.hermes import HermesReader
from server.wire.chat import read_chat
from server.wire.cursors import read_window
from server.wire.reading import Context
from server.wire.responses import read_response
from server.wire.stores import read_store_search

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = Path(__file__).with_name("hidden.py")  # a parser with a fault, to see that it is found
OURS = tuple(str(ROOT / room) for room in ("server", "indexer", "prompts", HIDDEN))
SECONDS, GROWTH_BYTES = 1.0, 256 * 2**20
LONGEST = 4096  # bytes: what is wrong with longer ones is wrong with these, and they are quick
EMBEDDER = HashEmbedder(16, 64)
CONTEXT = Context(id="x-1", created=7, unknown_fields="report")
WORDS = [word.encode(errors="surrogatepass") for word in (
    "", "0", "-1", "1e999", "NaN", "null", "true", "[]", "{}", '""', '"\\ud800"', "18446744073709551616",
    "eq", "and", "in", "type", "key", "value", "filters", "F32", "shape", "dtype", "data_offsets", "..", "%s",
    "name", "arguments", "role", "content", "text", "__metadata__", "<tool_call>", "</tool_call>", "\n", "# ",
    "```", "| a |", "\u202e", "\ufeff", "\0", "\ud800",
)]  # fmt: skip
KEYS = ["type", "key", "value", "filters", "name", "role", "content", "text", "shape", "id", "tools", "x", ""]
DEEP = [b"[" * 2000, b'{"":' * 900]
LEAVES = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**53 + 1,
    2**64,
    1e308,
    float("nan"),
    "",
    "a",
    "\0",
    "in",
    "F32",
    [],
    {},
]


class Target(NamedTuple):
    """Bytes into one parser, what it may refuse them by, and what they may look like."""

    run: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...]
    seeds: Sequence[bytes]


class Finding(NamedTuple):
    """What an input did."""

    what: str
    content: bytes


def _filter(content: bytes) -> None:
    with suppress(UnicodeDecodeError):
        read_filter(content.decode())
    with suppress(ValueError, RecursionError):
        parse_filter(json.loads(content))


def _tensors(content: bytes) -> None:
    """As the file, and as the header of one that is whole otherwise."""
    with tempfile.NamedTemporaryFile(dir=_memory()) as file:
        if content[:1] == b"{":
            content = len(content).to_bytes(8, "little") + content + bytes(16)
        file.write(content)
        file.flush()
        path = Path(file.name)
        check_finite(path, read_header(path))


def _calls(content: bytes) -> None:
    text = content[:512].decode(errors="replace")  # it is read again by the letter
    for reader in (HermesReader(), ListReader()):
        whole = reader.read(text, (), ends=True).text
        again = type(reader)()
        pieces = [again.read(one, (), ends=False).text for one in text]
        assert "".join([*pieces, again.read("", (), ends=True).text]) == whole, (
            "it matters how the text is cut"
        )


def _split(content: bytes) -> None:
    for document in read(content, "a.md").documents:
        for chunk in Splitting()(document, EMBEDDER):
            assert chunk.text


def _window(content: bytes) -> None:
    pairs = (line.partition("=") for line in content.decode(errors="replace").split("&"))
    read_window({name: value for name, _, value in pairs}, "file-")


def _rows(content: bytes) -> None:
    for name in ("a.jsonl", "a.csv", "a.json"):
        with suppress(Unreadable):
            read(content, name)


def _demos(content: bytes) -> None:
    parse_lines(content.decode(errors="replace").splitlines(), "a")


ASK = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"stop":["a"],"n":2}'
SEARCH = (
    b'{"query":["a"],"filters":{"type":"and","filters":[{"type":"in","key":"a","value":[1,"b"]}]},'
    b'"ranking_options":{"score_threshold":0.2,"hybrid_search":{"embedding_weight":1,"text_weight":0.5}}}'
)
FILTERS = [
    b'{"type":"or","filters":[{"type":"eq","key":"a","value":1},{"type":"nin","key":"b","value":["c"]}]}',
    b"year>=2020", b"lang=en",
]  # fmt: skip
HEADER = (
    b'{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
    b'"b":{"dtype":"F16","shape":[4],"data_offsets":[8,16]}}'
)
TENSORS = [HEADER, len(HEADER).to_bytes(8, "little") + HEADER + bytes(16)]
MANIFEST = json.dumps(
    {"format": 1, "name": "n", "kind": "lora", "files": {"a": {"sha256": "0" * 64, "bytes": 1}},
     "base": {"digest": "0" * 64}, "created": 1.5}
).encode()  # fmt: skip
PEFT = b'{"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":["q_proj"],"bias":"none"}'
CALLS = [
    b'Sure. <tool_call>\n{"name": "f", "arguments": {"a": [1, "}"]}}\n</tool_call>',
    b'[{"name":"g","parameters":{"a":"\\""}}]',
]
RESPONSE = b'{"model":"m","input":[{"role":"user","content":"x"}],"tools":[]}'
MARKDOWN = "# A\n\nText. Über.\n\n```\ncode\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n".encode()
EXPERIMENT = (
    b'format=1\nname="a"\nquestion="q?"\nunit="user"\nsalt="3f9a1c64e0b7258d9c41f6a27be05d18"\ncontrol="x"\n'
    b'[arms.x]\nweight=0.5\ntemplate="plain@1"\n[arms.y]\nweight=0.5\ntemplate="plain@1"\n'
    b'[metrics.m]\nfrom="feedback.thumb"\n[decide]\nprimary="m"\n'
)
TARGETS = {
    "filter": Target(_filter, (FilterInvalid,), FILTERS),
    "search": Target(read_store_search, (ServerError, FilterInvalid), [SEARCH]),
    "chat": Target(lambda body: read_chat(body, CONTEXT), (ServerError,), [ASK]),
    "response": Target(lambda body: read_response(body, CONTEXT), (ServerError,), [RESPONSE]),
    "cursor": Target(_window, (ServerError,), [b"limit=3&order=asc&after=file-01ARZ3NDEKTSV4RRFFQ69G5FAV"]),
    "tensors": Target(_tensors, (ServerError,), TENSORS),
    "manifest": Target(read_manifest, (ServerError,), [MANIFEST]),
    "peft": Target(read_peft_config, (ServerError,), [PEFT]),
    "calls": Target(_calls, (), CALLS),
    "rows": Target(_rows, (), [b'{"id":"1","text":"a","b":2}\n', b"id,text\n1,a\n", b'[{"text":"a"}]']),
    "splitter": Target(_split, (Unreadable,), [MARKDOWN]),
    "demos": Target(_demos, (PromptError,), [b'{"input":"a","output":"b","label":"c"}\n']),
    "experiment": Target(lambda body: parse_experiment(body, "a"), (PromptError,), [EXPERIMENT]),
}


class Steps:
    """Which steps between lines of ours were reached."""

    def __init__(self) -> None:
        self.new = False  # the last run took a step that none before it took
        self.known: set[tuple[int, int]] = set()
        self._now: set[tuple[int, int]] = set()
        self._last = 0
        self._ours: dict[str, bool] = {}

    def __call__(self, run: Callable[[bytes], object], content: bytes) -> None:
        """Run it. Raises what it raises."""
        self._now, self._last = set(), 0
        sys.settrace(self._called)
        try:
            run(content)
        finally:
            sys.settrace(None)
            self.new = not self._now <= self.known
            self.known |= self._now

    def _called(self, frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        ours = self._ours.get(name)
        if ours is None:
            ours = self._ours[name] = name.startswith(OURS)
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            here = hash((frame.f_code, frame.f_lineno))
            self._now.add((self._last, here))
            self._last = here
        return self._line


def reshaped(content: bytes, other: bytes, chance: random.Random) -> bytes | None:
    """A neighbour that is JSON again: values are others, gone, doubled or deeper. None for no JSON."""
    try:
        value, more = json.loads(content), json.loads(other)
    except (ValueError, RecursionError):
        return None
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            break
        held, at = chance.choice(places)
        match chance.randrange(6):
            case 0:
                del held[at]
            case 1:
                held[at] = [held[at]] if chance.random() < 0.5 else {chance.choice(KEYS): held[at]}
            case 2 if isinstance(held, dict):
                held[chance.choice(KEYS)] = held.pop(at)
            case 3:
                there, name = chance.choice(list(_places(more)) or [(held, at)])
                held[at] = copy.deepcopy(there[name])
            case 4 if isinstance(held, list):
                held += [copy.deepcopy(held[at])] * chance.choice((1, 20))
            case _:
                held[at] = copy.deepcopy(chance.choice(LEAVES))
    return json.dumps(value).encode()[:LONGEST]


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for at in keys:
        yield value, at
        if depth < 20:
            yield from _places(value[at], depth + 1)


def changed(content: bytes, pool: Sequence[bytes], chance: random.Random) -> bytes:
    """A neighbour of an input: a few of its bytes, numbers or parts are others, gone, doubled or moved."""
    if chance.random() < 0.6 and (new_json := reshaped(content, chance.choice(pool), chance)) is not None:
        return new_json
    new = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at, to = sorted(chance.randrange(len(new) + 1) for _ in range(2))
        match chance.randrange(8):
            case 0 if new:
                new[at % len(new)] ^= 1 << chance.randrange(8)
            case 7 if new:
                new[at % len(new)] = chance.randrange(32, 127)
            case 1:
                new[at:at] = chance.choice(DEEP if chance.random() < 0.02 else WORDS)
            case 2:
                new[at : min(to, at + 16)] = chance.choice(WORDS)
            case 3:
                del new[at : min(to, at + chance.choice((1, 4, 64)))]
            case 4:
                new[at:at] = new[at : min(to, at + 64)]
            case 5:
                other = chance.choice(pool)
                start = chance.randrange(len(other) + 1)
                new[at : min(to, at + 32)] = other[start : start + chance.choice((1, 8, 64))]
            case _:
                new[at:at] = chance.randbytes(chance.choice((1, 2, 8)))
    return bytes(new[:LONGEST])


def fuzz(target: Target, runs: int, seed: int, folder: Path | None = None) -> tuple[list[Finding], int, int]:
    """Findings, steps reached, inputs kept. At most ten findings, each by its kind and line once."""
    chance, steps = random.Random(seed), Steps()
    kept = sorted(folder.iterdir()) if folder is not None else []
    pool = [*target.seeds, *(path.read_bytes() for path in kept)]
    found: dict[str, Finding] = {}
    before = _resident()
    for number in range(runs):
        parent = chance.choice(pool if chance.random() < 0.5 else pool[-8:])  # the newest lead furthest
        content = pool[number] if number < len(pool) else changed(parent, pool, chance)
        began, what = time.process_time(), ""
        try:
            steps(target.run, content)
        except target.refuses:
            pass
        except Exception as error:
            last = error.__traceback__
            while last is not None and last.tb_next is not None:
                last = last.tb_next
            where = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else ""
            what = f"{type(error).__name__} at {where}: {error}"[:300]
            found.setdefault(f"{type(error).__name__} {where}", Finding(what, content))
        if time.process_time() - began > SECONDS and (took := _again(target, content)) > SECONDS:
            found.setdefault("slow", Finding(f"took {took:.1f} s", content))
        if steps.new and number >= len(pool):
            pool.append(content)
            if folder is not None:
                (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
        if len(found) >= 10:
            break
    if (grown := _resident() - before) > GROWTH_BYTES:
        found["memory"] = Finding(f"the process grew by {grown / 2**20:.0f} MB", b"")
    return list(found.values()), len(steps.known), len(pool)


def _again(target: Target, content: bytes) -> float:
    """The least seconds of the processor in three runs: a collection of garbage is nobody's fault."""
    took = []
    for _ in range(3):
        began = time.process_time()
        with suppress(Exception):
            target.run(content)
        took.append(time.process_time() - began)
    return min(took)


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def main(name: str, runs: int = 100_000, seed: int = 1, folder: str = "") -> int:
    kept = Path(folder) / name if folder else None
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found, steps, pool = fuzz(TARGETS[name], runs, seed, kept)
    for one in found:
        click.echo(json.dumps({"target": name, "seed": seed, "what": one.what, "content": one.content.hex()}))
    told = {"target": name, "runs": runs, "steps": steps, "kept": pool, "wrong": len(found)}
    click.echo(json.dumps(told | {"seconds": round(time.monotonic() - began, 1)}))
    return 1 if found else 0


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    raise SystemExit(main(name, *map(int, rest[:2]), *rest[2:]))
