"""In which order chosen demos are read; and the search for the order of a static set that suits a model."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from prompts.records import Demo, Order

MOST_ORDERS = 24
KEPT = 4


def arranged(taken: Sequence[int], order: Order, demos: Sequence[Demo], seed: int = 0) -> list[int]:
    """Rows ranked best first, in the order in which they are to be read."""
    match order:
        case "nearest_first":
            return list(taken)
        case "nearest_last":
            return list(reversed(taken))
        case "as_listed":
            return sorted(taken)
        case "shuffled":
            return sorted(taken, key=lambda at: (_hash(seed, demos[at].id), demos[at].id))
        case "interleaved":
            return _interleaved(list(reversed(taken)), demos)


class Ordered(NamedTuple):
    demos: tuple[Demo, ...]
    global_entropy: float  # over the shares of the probes answered with each label, nats
    local_entropy: float  # mean over probes of the entropy of the label probabilities, nats


def search_order(
    demos: Sequence[Demo],
    probes: Sequence[str],
    probabilities: Callable[[Sequence[Demo], str], Sequence[float]],
    *,
    seed: int = 0,
    kept: int = KEPT,
) -> list[Ordered]:
    """The orders of a static set that do not push the model to one answer, best first (arXiv 2104.08786).

    `probes` are inputs drawn from the model itself, without their labels; `probabilities(demos, probe)` are
    the label probabilities of a probe behind the demos in that order. At most MOST_ORDERS permutations are
    tried: all of a small set, else those whose hashes come first. Ranked by GlobalE, then LocalE. The
    result belongs to the model that was asked: an order does not transfer.
    """
    if not probes:
        raise ValueError("an order is judged by probes; none were given")
    found = []
    for order in permutations(demos, seed):
        rows = [list(probabilities(order, probe)) for probe in probes]
        answers = Counter(row.index(max(row)) for row in rows)
        spread = entropy([count / len(rows) for count in answers.values()])
        found.append(Ordered(tuple(order), spread, sum(map(entropy, rows)) / len(rows)))
    found.sort(key=lambda one: (-one.global_entropy, -one.local_entropy, [demo.id for demo in one.demos]))
    return found[:kept]


def permutations(demos: Sequence[Demo], seed: int = 0, most: int = MOST_ORDERS) -> list[tuple[Demo, ...]]:
    """At most `most` different orders: all there are, or a draw by `seed`; the given order is among them."""
    if math.factorial(min(len(demos), 8)) <= most:
        return list(itertools.permutations(demos))
    orders, draw = [tuple(demos)], 0
    while len(orders) < most:
        draw += 1
        order = tuple(sorted(demos, key=lambda demo: _hash(seed + draw * 1_000_003, demo.id)))
        if order not in orders:
            orders.append(order)
    return orders


def entropy(shares: Sequence[float]) -> float:
    """−Σ p ln p, nats."""
    return -sum(share * math.log(share) for share in shares if share > 0)


def _interleaved(rows: list[int], demos: Sequence[Demo]) -> list[int]:
    """No equal labels side by side while that is possible; the last row stays last where it can.

    Built from the end: the row that stands furthest back goes next, unless its label is that of the row
    behind, or another label has become so frequent that it must go now.
    """
    left, built = list(rows), list[int]()

    def label(at: int) -> str:
        return demos[at].label or f"\0{demos[at].id}"  # a demo without a label is like no other

    while left:
        many = Counter(map(label, left))
        behind = label(built[-1]) if built else None
        fit = [at for at in left if label(at) != behind] or left
        # only a label that fills half of what is left must go now; otherwise the nearer goes first
        forced = [at for at in fit if many[label(at)] * 2 > len(left)]
        chosen = (forced or fit)[-1]
        left.remove(chosen)
        built.append(chosen)
    return built[::-1]


def _hash(seed: int, demo_id: str) -> str:
    return hashlib.sha256(f"{seed}\n{demo_id}".encode()).hexdigest()
