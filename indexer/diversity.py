"""Hits that do not repeat each other."""

from collections.abc import Sequence

import numpy as np

from indexer.seams import Vectors


def spread(relevance: Sequence[float], vectors: Vectors, keep: float, top: int) -> list[int]:
    """Positions of the first `top` in order of maximal marginal relevance (Carbonell, Goldstein 1998).

    Each next one has the greatest keep · relevance - (1 - keep) · its largest cosine with those
    chosen before; `keep` 1 is the order by relevance, 0 regards nothing but difference. `vectors`
    are unit rows, one for each relevance (0..1). Equals in the order given.
    """
    gains = np.asarray(relevance, dtype=np.float64)
    nearest = np.full(len(gains), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(top, len(gains)):
        marginal = keep * gains - (1 - keep) * np.where(np.isinf(nearest), 0.0, nearest)
        marginal[chosen] = -np.inf
        best = int(np.argmax(marginal))
        chosen.append(best)
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen
