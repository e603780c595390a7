"""New instructions and sets of examples: by the model's own words, by taking away, by what it gets right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from prompts.demos import Pool
from prompts.records import Demo, DemoPolicy

Tell = Callable[[str, int], str]
"""(request, seed) → what the model writes, drawn at temperature 1."""

FEWEST, MOST = 3, 80  # words of an instruction
TRIES = 4  # times the number wanted
SHOWN = 5  # examples that an instruction is induced from
PARAPHRASE = (
    "Say this instruction in other words. Keep its meaning. Be brief.\n\nInstruction: {}\n\nIn other words:"
)
INDUCE = (
    "Somebody followed one instruction and turned each input into its output.\n\n{}\n\n"
    "Write the instruction in one sentence.\n\nInstruction:"
)


def paraphrases(tell: Tell, instruction: str, count: int, seed: int) -> list[str]:
    """At most `count` different rewordings; fewer when the model has no more to say."""
    return _different(tell, lambda _: PARAPHRASE.format(instruction), count, seed, {instruction})


def induced(tell: Tell, demos: Sequence[Demo], count: int, seed: int) -> list[str]:
    """At most `count` instructions guessed from SHOWN examples each (APE, arXiv 2211.01910)."""

    def request(at: int) -> str:
        shown = drawn(demos, SHOWN, seed + at)
        return INDUCE.format("\n".join(f"Input: {demo.input}\nOutput: {demo.output}" for demo in shown))

    return _different(tell, request, count, seed + 10_000, set())


def drawn(demos: Sequence[Demo], count: int, seed: int) -> list[Demo]:
    """A draw that does not depend on the order of the list."""
    return sorted(demos, key=lambda demo: hashlib.sha256(f"{seed}\n{demo.id}".encode()).digest())[:count]


def balanced(pool: Pool, count: int, seed: int) -> tuple[Demo, ...]:
    """A draw of each label in turn, read in a drawn order."""
    return pool.static(DemoPolicy(strategy="balanced", count=count, seed=seed, order="shuffled"))


def cleaned(text: str) -> str | None:
    """The instruction in what a model wrote: its first paragraph, without quotes; None when it is unfit."""
    first = next((line for line in text.strip().split("\n\n") if line.strip()), "")
    line = " ".join(first.split()).strip("\"'“”* ")
    for lead in ("Instruction:", "In other words:", "Rewritten:"):
        line = line.removeprefix(lead).strip("\"'“”* ")
    if not FEWEST <= len(line.split()) <= MOST or any(mark in line for mark in "{}<|>"):
        return None
    return line


def _different(
    tell: Tell, request: Callable[[int], str], count: int, seed: int, known: set[str]
) -> list[str]:
    found: list[str] = []
    for at in range(TRIES * count):
        if len(found) == count:
            break
        line = cleaned(tell(request(at), seed + at))
        if line is not None and line not in known:
            known.add(line)
            found.append(line)
    return found


def orders(demos: Sequence[Demo], count: int, seed: int) -> Iterator[tuple[Demo, ...]]:
    """Draws of an order; the first is the given one."""
    yield tuple(demos)
    for at in range(1, count):
        yield tuple(drawn(demos, len(demos), seed + 7919 * at))
