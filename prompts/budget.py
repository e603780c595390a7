"""What gives way first when it does not fit. Token numbers only; no text is read here.

The order of removals does not depend on the room, so whatever is kept in a small room is kept in a larger
one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prompts.records import KINDS, Budget, Kind


class Removal(NamedTuple):
    kind: Kind
    item: int  # index among the items of its kind


class Fit(NamedTuple):
    steps: int  # removals made
    tokens: int  # exact count after them


def leaving(
    static_demos: int,
    turns: int,
    demo_scores: Sequence[float],
    demo_labels: Sequence[str | None],
    source_scores: Sequence[float],
) -> dict[Kind, tuple[int, ...]]:
    """For each kind, its items in the order in which they leave.

    Static demos leave last listed first; turns oldest first; dynamic demos by lowest score, the last of a
    label only when nothing else is left; sources by lowest score, the later of equals first.
    """
    return {
        "static_demos": tuple(reversed(range(static_demos))),
        "history": tuple(range(turns)),
        "dynamic_demos": _spare_labels(demo_scores, demo_labels),
        "sources": tuple(sorted(range(len(source_scores)), key=lambda at: (source_scores[at], -at))),
    }


def _spare_labels(scores: Sequence[float], labels: Sequence[str | None]) -> tuple[int, ...]:
    worst_first = sorted(range(len(scores)), key=lambda at: (scores[at], at))
    left = Counter(labels)
    spare: list[int] = []
    for at in worst_first:
        if labels[at] is None or left[labels[at]] > 1:
            left[labels[at]] -= 1
            spare.append(at)
    return (*spare, *(at for at in worst_first if at not in spare))


def capped(
    orders: Mapping[Kind, Sequence[int]], sizes: Callable[[Kind], Sequence[int]], budget: Budget
) -> list[Removal]:
    """Removals that bring each kind under its `most` tokens, whatever the room, down to its `least` items."""
    removals: list[Removal] = []
    for kind in KINDS:
        if kind not in budget.most or not orders[kind]:
            continue
        tokens = sizes(kind)
        total = sum(tokens)
        for item in _spendable(orders[kind], budget.least.get(kind, 0)):
            if total <= budget.most[kind]:
                break
            removals.append(Removal(kind, item))
            total -= tokens[item]
    return removals


def removals(orders: Mapping[Kind, Sequence[int]], budget: Budget) -> tuple[Removal, ...]:
    """Every item that may give way, in the order in which items go: one kind after the other."""
    return tuple(
        Removal(kind, item)
        for kind in budget.gives_way
        for item in _spendable(orders[kind], budget.least.get(kind, 0))
    )


def without(gone: Sequence[Removal], kind: Kind, order: Sequence[int]) -> tuple[int, ...]:
    """The items of a kind that are left, in the given order."""
    out = {removal.item for removal in gone if removal.kind == kind}
    return tuple(item for item in order if item not in out)


def _spendable(order: Sequence[int], least: int) -> Sequence[int]:
    return order[: max(0, len(order) - least)]


def fewest(last: int, tokens: Callable[[int], int], room: int, guess: Callable[[int], int]) -> Fit:
    """The fewest of `last` removals after which the exact count fits the room.

    `tokens(k)` is the exact count after k removals and falls as k grows; it is called about three times
    when `guess`, given tokens(0), comes close. The result does not fit when even `last` removals do not help.
    """
    counted = {0: tokens(0)}
    if counted[0] <= room or last == 0:
        return Fit(0, counted[0])
    low, high = 0, last + 1  # low removals are too few; high are enough, or past the end
    probe = min(max(guess(counted[0]), 1), last)
    stride, first, turned = 1, None, False
    while high - low > 1:
        counted[probe] = tokens(probe)
        hit = counted[probe] <= room
        low, high = (low, probe) if hit else (probe, high)
        first = hit if first is None else first
        turned = turned or hit is not first
        if turned:
            probe = (low + high) // 2
        else:  # gallop away from the guess, which is seldom wrong by much
            probe = max(low + 1, probe - stride) if hit else min(high - 1, probe + stride)
            stride *= 2
    steps = min(high, last)
    return Fit(steps, counted[steps])


def prompt_room(context_tokens: int, requested: int | None, reserve: int, soft_prompt_tokens: int = 0) -> int:
    """Tokens a prompt may take: the context less what the completion is promised.

    `requested` is the caller's completion limit; None asks for no more than the template's `reserve`.
    """
    promised = reserve if requested is None else min(requested, reserve)
    return context_tokens - promised - soft_prompt_tokens


def completion_room(context_tokens: int, prompt_tokens: int, requested: int | None) -> int:
    """Tokens the completion may take once the prompt is laid out."""
    left = context_tokens - prompt_tokens
    return left if requested is None else min(requested, left)
