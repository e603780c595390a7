"""Questions to hits: both legs at once over held generations, fused, text from the catalogue."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np

from indexer import fusion, keywords, lookup, vectors
from indexer.attributes import check_kinds
from indexer.candidates import MOST, as_hit, candidates, capped, reranked, unlike
from indexer.catalogue import Catalogue
from indexer.embedders import Embedders
from indexer.errors import RerankerMissing
from indexer.filters import Filter
from indexer.groups import Group, few_will_do, together
from indexer.legs import Told, timed, untold
from indexer.records import Hit, Hits, Store
from indexer.seams import Embedder, Reranker, Vectors
from indexer.snapshots import Snapshot, Snapshots, background
from indexer.vectors.card import Card
from indexer.wording import Wording, read_ahead

Mode = Literal["hybrid", "dense", "keyword"]
DEPTH = 200  # candidates of a leg, at least
OVERTAKEN = 10  # searches, at most, when each meets rows that a newer generation has taken away


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What a search may be told beyond its question."""

    filter: Filter | None = None  # on the attributes of documents; what fails it is never a candidate
    threshold: float = 0.0  # the least score of a hit
    per_file: int | None = None  # hits of one document; a row of a JSONL file is a document
    weights: tuple[float, float] | None = None  # (dense, keyword), not both 0: which leg to lean on
    diversity: float | None = None  # 0..1; the share that being unlike the hits before has in the order
    rerank: bool = False  # read the best candidates again with the reranker

    @property
    def keeps_order(self) -> bool:
        """Whether the first hits are the first candidates."""
        return not self.rerank and self.diversity is None and self.per_file is None


PLAIN = Refinement()


class Searcher:
    """Searches the stores of one data folder. Safe to call from several threads."""

    def __init__(
        self,
        data: Path,
        embedder: Embedder | Embedders,
        reranker: Reranker | None = None,
        card: Card | None = None,
        tell: Told = untold,
    ) -> None:
        """One embedder serves the stores it built; `Embedders` serve each store with its own.

        With a card, large segments are searched there. `tell` hears how long each leg took.

        Raises `DatabaseRefused` when the catalogue cannot be opened.
        """
        self._catalogue = Catalogue(data)
        self._embedders = embedder if isinstance(embedder, Embedders) else Embedders(None, embedder)
        self._reranker, self._tell = reranker, tell
        self._snapshots = Snapshots(self._catalogue, card)
        self._legs = ThreadPoolExecutor(max_workers=8, thread_name_prefix="keyword-leg")

    @property
    def reranks(self) -> bool:
        """Whether there is a reranker."""
        return self._reranker is not None

    def search(
        self,
        query: str,
        stores: Sequence[str],
        *,
        top: int = 10,
        mode: Mode = "hybrid",
        vector: Vectors | None = None,
        refine: Refinement = PLAIN,
        tenant: str | None = None,
    ) -> Hits:
        """At most `top` hits, by strictly decreasing score.

        `stores` are ids or names; `vector` is the query's if it is known already, for stores of one
        embedder; with `tenant`, the stores of others do not exist. Raises `UnknownStore`, `StoreExpired`,
        `EmbedderMissing` and `EmbedderMismatch` (unless mode is
        keyword), `FilterInvalid`, `RerankerMissing` and `StoreDamaged`.
        """
        given = None if vector is None else vector[None, :]
        return self.search_many(
            [query], stores, top=top, mode=mode, given=given, refine=refine, tenant=tenant
        )[0]

    def search_many(
        self,
        queries: Sequence[str],
        stores: Sequence[str],
        *,
        top: int = 10,
        mode: Mode = "hybrid",
        given: Vectors | None = None,
        refine: Refinement = PLAIN,
        tenant: str | None = None,
    ) -> list[Hits]:
        """`search` for several queries in one pass over the vectors; `given` has a row for each."""
        if refine.rerank and self._reranker is None:
            raise RerankerMissing("no reranker is set up: name a cross-encoder's folder (--reranker)")
        mode = _leaning(mode, refine.weights)
        for _ in range(OVERTAKEN):
            lost: list[int] = []
            found, held = self._search_held(queries, stores, top, mode, given, refine, tenant, lost)
            if not lost or not self._newer(held):
                break
        return found

    def _newer(self, held: Sequence[Snapshot]) -> bool:
        """Whether a generation was published since: a merge or a purge may have taken rows of these."""
        now = lookup.stores(self._catalogue, [snapshot.store_id for snapshot in held])
        return any(store.generation > one.number for store, one in zip(now, held, strict=True))

    def _search_held(
        self,
        queries: Sequence[str],
        stores: Sequence[str],
        top: int,
        mode: Mode,
        given: Vectors | None,
        refine: Refinement,
        tenant: str | None,
        lost: list[int],
    ) -> tuple[list[Hits], Sequence[Snapshot]]:
        """The hits of the newest generations, and these; `lost` takes ids that have no rows any more."""
        known = {store.id: store for store in lookup.stores(self._catalogue, stores, tenant)}
        held = [self._snapshots.newest(store) for store in known.values()]
        numbers = {snapshot.store_id: snapshot.number for snapshot in held}
        groups = self._groups(held, known, mode, refine.filter)
        asked = [at for at, query in enumerate(queries) if top > 0 and query.strip()]
        texts = [queries[at] for at in asked]
        rows = given[asked] if given is not None and len(groups) == 1 else None
        found = [Hits((), numbers)] * len(queries)
        few, deep = 4 * top, max(DEPTH, 4 * top)
        shallow = few < deep and mode == "dense" and refine.keeps_order and few_will_do(groups)
        for depth in (few, deep) if shallow else (deep,):
            ranked = [self._rank(texts, group, depth, mode, rows, refine.weights) for group in groups]
            enough = True
            for at, *answers in zip(asked, *ranked, strict=True):
                best = fusion.merged(answers)
                if depth < deep:
                    best = fusion.certain(best, depth)
                hits, full = self._hits(queries[at], best, held, top, refine, lost)
                enough = enough and (full or depth == deep or len(answers[0]) < depth)
                found[at] = Hits(hits, numbers)
            if enough:
                break
        return found, held

    def check(self) -> None:
        """Read the catalogue once; raises `IndexerError` when it cannot be read."""
        self._catalogue.stores()

    def warm(self) -> None:
        """Load the embedding model now, so that the first query does not wait for it."""
        self._embedders.warm()

    def close(self) -> None:
        """Let go of files, threads and connections."""
        self._legs.shutdown()
        self._snapshots.clear()
        self._catalogue.close()

    def _groups(
        self, held: Sequence[Snapshot], known: Mapping[str, Store], mode: Mode, wanted: Filter | None
    ) -> list[Group]:
        columns = {} if wanted is None else {one.store_id: self._snapshots.attributes(one) for one in held}
        if wanted is not None:
            check_kinds(wanted, columns.values())
        by_model: dict[str, list[Snapshot]] = {}
        for snapshot in held:
            by_model.setdefault("" if mode == "keyword" else snapshot.embedder_digest, []).append(snapshot)
        groups = []
        for digest, some in by_model.items():
            first = some[0]
            embedder = None
            if digest:
                embedder = self._embedders.of(first.embedder, digest, known[first.store_id].name)
            allowed = None
            if wanted is not None:
                allowed = together([columns[one.store_id].allowed(wanted) for one in some])
            groups.append(Group(embedder, some, together([one.hidden for one in some]), allowed))
        return groups

    def _rank(
        self,
        queries: Sequence[str],
        group: Group,
        depth: int,
        mode: Mode,
        given: Vectors | None,
        weights: tuple[float, float] | None,
    ) -> list[list[tuple[int, float]]]:
        """(id, probability of relevance) of each query's candidates, best first."""
        segments = [segment for snapshot in group.snapshots for segment in snapshot.segments.values()]
        indexes = [segment.keywords for segment in segments]
        chosen = group.hidden, group.allowed
        pending = []
        read = [Wording(self._catalogue.engine, query) for query in queries] if mode == "hybrid" else []
        if mode != "dense":
            pending = [
                self._legs.submit(
                    read_ahead,
                    partial(keywords.match, indexes, query, depth, *chosen),
                    read[at] if read else None,
                    group.embedder,
                    self._tell,
                )
                for at, query in enumerate(queries)
            ]
        dense: list[fusion.Dense] = []
        if group.embedder is not None and queries:
            if given is None:
                with timed(self._tell, "embed"):
                    asked = [self._embedders.query(group.embedder, query) for query in queries]
                    given = np.stack(asked) if len(asked) > 1 else asked[0][None, :]
            with timed(self._tell, "vector"):
                near = vectors.nearest_each([segment.vectors for segment in segments], given, depth, *chosen)
            dense = [fusion.Dense(one) for one in near]
            if pending:  # what the leg weighs beside the other one
                for leg, one, reading in zip(pending, near, read, strict=True):
                    reading.awaited = True
                    if not leg.done():  # the words take longer: time to read what is near
                        reading.read(one.ids[: fusion.READ])
                around = [background(group.snapshots, vector) for vector in given]
                dense = [
                    fusion.Dense(one, behind, leg.result().grasp)
                    for one, behind, leg in zip(near, around, pending, strict=True)
                ]
        words = [leg.result().keyword for leg in pending]
        with timed(self._tell, "fuse"):
            return [
                fusion.fuse(
                    dense[at] if dense else None,
                    words[at] if words else None,
                    weights or (1.0, 1.0),
                    read[at].closeness if read else None,
                )
                for at in range(len(queries))
            ]

    def _hits(
        self,
        query: str,
        ranked: Sequence[tuple[int, float]],
        held: Sequence[Snapshot],
        top: int,
        refine: Refinement,
        lost: list[int],
    ) -> tuple[tuple[Hit, ...], bool]:
        """The best `top` as the refinement wants them; whether there were so many before its threshold."""
        numbers = {snapshot.store_id: snapshot.number for snapshot in held}
        found = candidates(self._catalogue.engine, ranked, numbers, top, lost)
        if refine.rerank or refine.diversity is not None:
            pool = list(islice(found, max(MOST, 2 * top)))
            if refine.rerank and self._reranker is not None:
                with timed(self._tell, "rerank"):
                    pool = reranked(self._reranker, query, pool)
            if refine.diversity is not None:
                pool = unlike(pool, held, refine.diversity, refine.threshold)
            found = chain(pool, found)
        if refine.per_file is not None:
            found = capped(found, refine.per_file)
        kept = list(islice(found, top))
        scores = fusion.calibrate([candidate.evidence for candidate in kept])
        pairs = zip(kept, scores, strict=True)
        hits = tuple([as_hit(one.passage, score) for one, score in pairs if score >= refine.threshold])
        return hits, len(kept) == top


def _leaning(mode: Mode, weights: tuple[float, float] | None) -> Mode:
    """A leg that weighs nothing need not be asked."""
    if mode != "hybrid" or weights is None or all(weights):
        return mode
    return "dense" if weights[0] else "keyword"
