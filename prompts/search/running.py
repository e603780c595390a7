"""Rounds of races over the search items, the baselines, and the one comparison on held-out items."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prompts.analysis.paired import Interval, McNemar, holm, mcnemar, wilson
from prompts.demos import Pool
from prompts.errors import SearchRefused
from prompts.racing import FIRST, Race, race
from prompts.records import Demo
from prompts.search import proposing
from prompts.search.candidates import Candidate, Judge, Ledger, Maker
from prompts.search.proposing import Tell
from prompts.search.splits import Splits
from prompts.search.wording import ablations, with_instruction

SIZES = {"light": 6, "medium": 12, "heavy": 18}
DELTA = 0.05
BOOTSTRAPPED, LABELLED, NEAREST = 4, 16, 8
BEST = 3  # instructions that are combined with sets of examples
DISCORDANT = 0.15  # share of items that two candidates answer unlike, for the smallest gain that can show


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    winner: Candidate
    candidates: tuple[Candidate, ...]
    races: tuple[tuple[str, tuple[Candidate, ...], Race], ...]  # name of the round
    refused: dict[str, str]  # what a proposer said → why it was no candidate
    held_out: dict[str, tuple[float, ...]]  # name → right, an item each
    tokens: dict[str, int]  # spent on what
    curve: tuple[dict[str, Any], ...]
    search_accuracy: dict[str, Interval]

    @property
    def claims(self) -> dict[str, tuple[McNemar, float]]:
        """The winner against the original and against random rewrites, with p by Holm."""
        others = [name for name in ("original", "random rewrites") if name in self.held_out]
        tests = [mcnemar(self.held_out["winner"], self.held_out[name]) for name in others]
        corrected = holm([test.p for test in tests])
        return {name: (test, p) for name, test, p in zip(others, tests, corrected, strict=True)}


def smallest_gain(items: int, discordant: float = DISCORDANT) -> float:
    """The smallest difference that `items` held-out items show with a power of 0.8, at p < 0.05.

    n = (1.96 √ψ + 0.84 √(ψ − d²))² / d², solved for d; ψ is the share of items answered unlike.
    """
    low, high = 0.0, math.sqrt(discordant)
    for _ in range(60):
        d = (low + high) / 2
        needed = (1.96 * math.sqrt(discordant) + 0.84 * math.sqrt(discordant - d * d)) ** 2 / (d * d)
        low, high = (d, high) if needed > items else (low, d)
    return high


def search(
    table: Mapping[str, Any],
    splits: Splits,
    judge: Judge,
    tell: Tell,
    *,
    pool: Pool,
    size: str = "light",
    budget_tokens: int,
    seed: int = 7,
    say: Callable[[str], object] = lambda line: None,
) -> Found:
    """Look for a better next version of the template in `table` (its parsed TOML).

    `pool` holds the demos split, with vectors. `budget_tokens` are the prompt tokens of the search; random
    rewrites get as many again, the held-out comparison comes on top. Raises SearchRefused when the budget
    does not pay for a first look.
    """
    maker = Maker(table, splits, judge)
    original = maker.make("original", "original", maker.system, maker.demos)
    assert original is not None
    half, ledger = budget_tokens // 2, Ledger(judge)
    proposals = _instructions(maker, original, tell, SIZES[size] // 2, seed)
    say(f"round 1: {len(proposals)} instructions")
    first = _race("instructions", [original, *proposals], splits, ledger, half, 1, seed)
    best = _ranked(first)[:BEST]
    combined = _combined(maker, best, ledger, splits, pool, SIZES[size] - SIZES[size] // 2, seed)
    say(f"round 2: {len(combined)} combinations with examples")
    incumbent = best[0]
    second = _race(
        "combinations", [incumbent, *combined], splits, ledger, budget_tokens - ledger.spent, 2, seed
    )
    winner = _ranked(second)[0]
    rewrites = Ledger(judge)
    say("random rewrites, for the same tokens")
    words = proposing.paraphrases(tell, maker.instruction or original.template.about, SIZES[size], seed + 500)
    undirected = [
        one
        for at, line in enumerate(words)
        if (
            one := maker.make(
                f"rewrite {at + 1}", "paraphrase", with_instruction(maker.system, line), maker.demos
            )
        )
    ]
    chance = _race("random rewrites", [original, *undirected], splits, rewrites, ledger.spent, 1, seed)
    say(f"held out: {len(splits.held_out)} items, once")
    held = _held_out(maker, splits, judge, pool, original, winner, _ranked(chance)[0], seed)
    every = tuple({one.name: one for _, some, _ in (first, second, chance) for one in some}.values())
    return Found(
        winner=winner,
        candidates=every,
        races=(first, second, chance),
        refused=maker.refused,
        held_out=held,
        tokens={"search": ledger.spent, "random rewrites": rewrites.spent},
        curve=tuple(ledger.curve),
        search_accuracy=_accuracies((first, second, chance)),
    )


def _instructions(maker: Maker, original: Candidate, tell: Tell, count: int, seed: int) -> list[Candidate]:
    """Different instructions, the proposers in turn until there are `count` or none has more to say."""
    about = maker.instruction or original.template.about
    offers = {
        "paraphrase": [
            with_instruction(maker.system, one) for one in proposing.paraphrases(tell, about, count, seed)
        ],
        "induce": [
            with_instruction(maker.system, one)
            for one in proposing.induced(tell, maker.splits.demos, count, seed)
        ],
        "ablate": ablations(maker.system),
    }
    found: list[Candidate] = []
    taken = {maker.system}
    while len(found) < count and any(offers.values()):
        for proposer, systems in offers.items():
            if not systems or len(found) == count:
                continue
            system = systems.pop(0)
            if system not in taken:
                taken.add(system)
                one = maker.make(f"{proposer} {len(found) + 1}", proposer, system, maker.demos)
                found += [one] if one else []
    return found


def _combined(
    maker: Maker,
    best: Sequence[Candidate],
    ledger: Ledger,
    splits: Splits,
    pool: Pool,
    count: int,
    seed: int,
) -> list[Candidate]:
    """The best instructions × sets of examples × orders, a draw of them."""
    sets = {
        f"{BOOTSTRAPPED} it gets right": _bootstrapped(best[0], ledger, splits, seed),
        f"{LABELLED // 2} of each label in turn": proposing.balanced(pool, LABELLED // 2, seed),
        f"{LABELLED} of each label in turn": proposing.balanced(pool, LABELLED, seed + 1),
    }
    pairs = [
        (instruction, f"{name}, order {number}", order)
        for instruction in best
        for name, demos in sets.items()
        if demos
        for number, order in enumerate(proposing.orders(demos, 2, seed), 1)
    ]
    rng = np.random.default_rng(seed)
    found: list[Candidate] = []
    for at in rng.permutation(len(pairs)):
        if len(found) == count:
            break
        instruction, name, demos = pairs[at]
        system = str(instruction.template.parts.get("system", ""))
        one = maker.make(f"{instruction.name} + {name}", "combine", system, demos)
        found += [one] if one else []
    return found


def _bootstrapped(candidate: Candidate, ledger: Ledger, splits: Splits, seed: int) -> tuple[Demo, ...]:
    """Up to BOOTSTRAPPED demos whose output the candidate gives of itself, of different labels first."""
    some = proposing.drawn(splits.demos, 8 * BOOTSTRAPPED, seed)
    right = ledger.right(candidate.template, some)
    good = [demo for demo, score in zip(some, right, strict=True) if score == 1]
    ranked = sorted(
        good, key=lambda demo: [other.label for other in good[: good.index(demo)]].count(demo.label)
    )
    return tuple(ranked[:BOOTSTRAPPED])


def _race(
    name: str,
    candidates: Sequence[Candidate],
    splits: Splits,
    ledger: Ledger,
    budget: int,
    number: int,
    seed: int,
) -> tuple[str, tuple[Candidate, ...], Race]:
    items = list(splits.search)
    order = np.random.default_rng(seed).permutation(len(items)).tolist()
    sample = [items[at] for at in order[:5]]
    each = np.mean([ledger.judge.tokens(one.template, item) for one in candidates for item in sample])
    most = int(budget / max(float(each), 1.0))
    if most < FIRST * min(len(candidates), 2):
        raise SearchRefused(
            f"the budget leaves {budget} tokens for {name}, and a first look takes about "
            f"{round(each * FIRST * len(candidates))}: allow more tokens, or choose a smaller --size"
        )

    seen: dict[str, list[float]] = {one.name: [] for one in candidates}

    def ask(who: Sequence[int], which: Sequence[int]) -> list[list[float]]:
        columns = [ledger.right(candidates[at].template, [items[one] for one in which]) for at in who]
        for at, column in zip(who, columns, strict=True):
            seen[candidates[at].name] += column
        means = {candidates[at].name: float(np.mean(seen[candidates[at].name])) for at in who}
        ledger.curve.append({"race": name, "tokens": ledger.spent, "accuracies": means})
        return [list(row) for row in zip(*columns, strict=True)]

    run = race(ask, len(candidates), order, delta=DELTA / (number * (number + 1)), most_asked=most)
    return name, tuple(candidates), run


def _ranked(raced: tuple[str, tuple[Candidate, ...], Race]) -> list[Candidate]:
    """Those that are live by their mean over what all of them saw, then those that were dropped last."""
    _, candidates, run = raced
    live = list(run.live)
    seen = ~np.isnan(run.scores[:, live]).any(axis=1)
    means = run.scores[seen][:, live].mean(axis=0) if seen.any() else np.zeros(len(live))
    first = [candidates[live[at]] for at in np.argsort(-means, kind="stable")]
    return first + [candidates[at] for at in sorted(run.dropped, key=lambda one: -run.dropped[one])]


def _held_out(
    maker: Maker,
    splits: Splits,
    judge: Judge,
    pool: Pool,
    original: Candidate,
    winner: Candidate,
    rewrite: Candidate,
    seed: int,
) -> dict[str, tuple[float, ...]]:
    """Right or not on every held-out item: the winner, and what it has to beat."""
    items = splits.held_out
    labelled = maker.make("labelled", "combine", maker.system, proposing.drawn(splits.demos, LABELLED, seed))
    found = {
        "winner": judge.right(winner.template, items),
        "original": judge.right(original.template, items),
        "random rewrites": judge.right(rewrite.template, items),
    }
    if labelled is not None and original.template.takes_demos:
        found[f"{LABELLED} random examples"] = judge.right(labelled.template, items)
        shown = [pool.pick(item.input, NEAREST).demos for item in items]
        found[f"{NEAREST} nearest examples"] = judge.right(original.template, items, shown)
    return {name: tuple(scores) for name, scores in found.items()}


def _accuracies(
    races: Sequence[tuple[str, tuple[Candidate, ...], Race]],
) -> dict[str, Interval]:
    """Of each candidate on the search items that it saw in the last race it ran."""
    found = {}
    for _, candidates, run in races:
        for at, candidate in enumerate(candidates):
            seen = run.scores[~np.isnan(run.scores[:, at]), at]
            if len(seen):
                found[candidate.name] = wilson(int(seen.sum()), len(seen))
    return found
