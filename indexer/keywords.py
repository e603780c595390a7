"""BM25 over terms of any script: the only file that imports tantivy.

Each segment is an immutable tantivy index of its own. So that scores mean the same in all of
them, a query's terms are weighted by the inverse document frequency over all segments together.
Indexes of release 0.1.0, which stemmed English only, are searched by the terms they were written with.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import tantivy

from indexer.errors import StoreDamaged
from indexer.records import Ranked
from indexer.scored import Scored, among, best, visible
from indexer.seams import Ids
from indexer.words import SCRIPTS, words

FOLDER = "keywords"
NONE = np.empty(0, dtype=np.int64)
MOST_TERMS = 256  # of a query; the rarest are kept
REMEMBERED = 50_000  # words whose stem, and terms whose weight in an index, is kept
_LARGE = 1 << 15  # texts; for fewer the large heap, which takes milliseconds to set up, is no gain
_HEAP_BYTES, _LARGE_HEAP_BYTES = 32_000_000, 128_000_000  # beyond it tantivy starts a segment, searched apart
_SATURATION = 2.2  # k1 + 1: what one term can add at most, times its idf

_FIELD, _FIELD_0_1_0 = "stems", "terms"


def _schema(field: str) -> tantivy.Schema:
    return (
        tantivy.SchemaBuilder()
        .add_integer_field("id", indexed=True, fast=True)
        .add_text_field(field, tokenizer_name="whitespace", index_option="freq")
        .build()
    )


def _stemmer(language: str) -> tantivy.TextAnalyzer:
    stemmer = tantivy.Filter.stemmer(language)
    return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(stemmer).build()


_SCHEMAS = {field: _schema(field) for field in (_FIELD, _FIELD_0_1_0)}
_ENGLISH = _stemmer("english")
_STEMMERS = {language: _stemmer(language) for language in SCRIPTS}


Hit = tuple[float, tantivy.DocAddress]


class Rarity(NamedTuple):
    """How many texts of one index contain a term, and the term's inverse document frequency there."""

    texts: int
    idf: float


def terms(text: str) -> list[str]:
    """Index terms of a text: words of any script, stemmed by the rules for theirs, Latin ones as English."""
    return [_stem(word) for word in words(text)]


@lru_cache(REMEMBERED)
def _stem(word: str) -> str:
    stemmer = _ENGLISH
    if not word.isascii():
        for language, script in SCRIPTS.items():
            if script.search(word):
                stemmer = _STEMMERS[language]
    return str(stemmer.analyze(word)[0])


class TantivyKeywords:
    """A `KeywordIndex` in one folder. One writer; readers see what was there when they opened."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`, or start one if the folder is empty.

        Raises `StoreDamaged` when the folder does not hold a readable index.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._index, self.field = _opened(folder)
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            raise StoreDamaged(f"{folder} is not a readable keyword index") from error
        self._folder = folder
        self._reopen()

    def add(self, ids: Ids, texts: Sequence[str]) -> None:
        """Index one text per id, in one commit."""
        writer = self._index.writer(_HEAP_BYTES if len(ids) < _LARGE else _LARGE_HEAP_BYTES, 1)
        for row, text in zip(ids.tolist(), texts, strict=True):
            document = tantivy.Document()
            document.add_integer("id", row)
            found = words(text)
            document.add_text(self.field, " ".join(self.spelled(list(map(_stem, found)), found)))
            writer.add_document(document)
        self._commit(writer)

    def remove(self, ids: Ids) -> None:
        """Drop texts by id; unknown ids are ignored."""
        writer = self._index.writer(_HEAP_BYTES, 1)
        for row in ids.tolist():
            writer.delete_documents_by_term("id", row)
        self._commit(writer)

    def match(self, query: str, top: int, hidden: Ids = NONE, allowed: Ids | None = None) -> Ranked:
        """At most `top` ids by decreasing BM25, never one of `hidden`, all of them `allowed`."""
        return match([self], query, top, hidden, allowed)[0]

    def spelled(self, stems: Sequence[str], found: Sequence[str]) -> list[str]:
        """The terms of these words in this index, given the words and their stems."""
        return list(stems) if self.field == _FIELD else _ENGLISH.analyze(" ".join(found))

    def rarity(self, term: str) -> Rarity:
        """Of a term as it is spelled here."""
        found = self._rarity.get(term)
        if found is None:
            if len(self._rarity) > REMEMBERED:
                self._rarity.clear()
            texts = self._searcher.doc_freq(self.field, term)
            found = self._rarity[term] = Rarity(texts, _idf(self.size, texts))
        return found

    def ids(self) -> Ids:
        """All ids in the index, sorted."""
        found = self._searcher.search(tantivy.Query.all_query(), max(1, self.size))
        rows = self._searcher.fast_field_values("id", [address for _, address in found.hits])
        return np.sort(np.array(rows, dtype=np.int64))

    def scores(self, weights: dict[str, float], top: int, hidden: Ids, allowed: Ids | None) -> Scored:
        """The best `top` visible texts; weights multiply tantivy's own BM25. Both id lists are sorted."""
        query = self._query(weights)
        if allowed is not None and _are_few(allowed, top, self.size):
            named = tantivy.Query.term_set_query(_SCHEMAS[self.field], "id", allowed.tolist())
            query = tantivy.Query.boolean_query(
                [
                    (tantivy.Occur.Must, query),
                    (tantivy.Occur.Must, tantivy.Query.const_score_query(named, 0.0)),
                ]
            )
            allowed = None
        wanted = top
        while True:
            hits = self._searcher.search(query, wanted, count=False).hits
            scores, ids = self.named(hits)
            if not len(hidden) and allowed is None:
                return Scored(scores, ids)
            rows = np.array(ids, dtype=np.int64)
            kept = ~among(rows, hidden)
            if allowed is not None:
                kept &= among(rows, allowed)
            if np.count_nonzero(kept) >= top or len(hits) < wanted:
                at = np.flatnonzero(kept)[:top].tolist()
                return Scored([scores[place] for place in at], [ids[place] for place in at])
            wanted *= 4  # others took the places: look deeper

    def hits(self, weights: dict[str, float], top: int) -> list[Hit]:
        """The best `top` texts, in tantivy's own words."""
        return cast(list[Hit], self._searcher.search(self._query(weights), top, count=False).hits)

    def named(self, hits: Sequence[Hit]) -> Scored:
        """The same by their ids."""
        found = self._searcher.fast_field_values("id", [address for _, address in hits])
        return Scored([score for score, _ in hits], cast(list[int], found))  # every text has one

    def _query(self, weights: dict[str, float]) -> tantivy.Query:
        schema, field = _SCHEMAS[self.field], self.field
        return tantivy.Query.boolean_query(
            [
                (
                    tantivy.Occur.Should,
                    _boosted(tantivy.Query.term_query(schema, field, term, "freq"), weight),
                )
                for term, weight in weights.items()
            ]
        )

    def _commit(self, writer: tantivy.IndexWriter) -> None:
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._reopen()

    def _reopen(self) -> None:
        """See what is committed now."""
        self._searcher = self._index.searcher()
        self.size = self._searcher.num_docs  # texts in the index
        self._rarity: dict[str, Rarity] = {}


def match(
    segments: Sequence[TantivyKeywords],
    query: str,
    top: int,
    hidden: Ids = NONE,
    allowed: Ids | None = None,
) -> tuple[Ranked, float]:
    """The best `top` of several indexes together, and the most that any text could score.

    `hidden` and `allowed` are sorted ids; None allows all. Terms weigh what they weigh in all texts.
    The second value is the sum of (k1 + 1) · idf over the query's terms, the limit of BM25
    when every term is repeated for ever; a score divided by it says how much of the query was met.
    """
    found_words = words(query)
    stems = list(map(_stem, found_words))
    wanted = Counter(stems)
    total = sum(segment.size for segment in segments)
    if not wanted or not total or top <= 0:
        return Ranked((), ()), 0.0
    spelled = [dict(zip(stems, segment.spelled(stems, found_words), strict=True)) for segment in segments]
    local = [
        {term: segment.rarity(own) for term, own in names.items()}
        for segment, names in zip(segments, spelled, strict=True)
    ]
    rarity = local[0] if len(local) == 1 else _together(local, total)
    if len(wanted) > MOST_TERMS:
        rarest = sorted(wanted, key=lambda term: (rarity[term].texts, term))[:MOST_TERMS]
        wanted = Counter({term: wanted[term] for term in rarest})
    asked: list[tuple[TantivyKeywords, dict[str, float]]] = []
    for segment, names, here in zip(segments, spelled, local, strict=True):
        boosts = {
            names[term]: count * (rarity[term].idf / here[term].idf)
            for term, count in wanted.items()
            if here[term].texts
        }
        if boosts:
            asked.append((segment, boosts))
    if allowed is not None:
        found = [segment.scores(boosts, top, hidden, allowed) for segment, boosts in asked]
    else:
        found = visible(asked, top, hidden)
    most = _SATURATION * sum(count * rarity[term].idf for term, count in wanted.items())
    return best(found, top), most


def _together(local: Sequence[Mapping[str, Rarity]], total: int) -> dict[str, Rarity]:
    """Of the same terms over several indexes with `total` texts."""
    texts = {term: sum(here[term].texts for here in local) for term in local[0]}
    return {term: Rarity(many, _idf(total, many)) for term, many in texts.items()}


def _opened(folder: Path) -> tuple[tantivy.Index, str]:
    """The index in the folder and the field its terms are in; tantivy refuses another schema."""
    try:
        return tantivy.Index(_SCHEMAS[_FIELD], path=str(folder)), _FIELD
    except ValueError:
        return tantivy.Index(_SCHEMAS[_FIELD_0_1_0], path=str(folder)), _FIELD_0_1_0


def _boosted(query: tantivy.Query, weight: float) -> tantivy.Query:
    return query if weight == 1.0 else tantivy.Query.boost_query(query, weight)


def _are_few(allowed: Ids, top: int, size: int) -> bool:
    """Whether naming the ids in the query costs less than passing over texts that are not allowed.

    Measured on 100,000 texts: about 15 µs an id named, against 1.4 µs for each text passed over, and
    with a share s of the texts allowed, top / s of them are.
    """
    return 10 * len(allowed) ** 2 <= top * size


def _idf(texts: int, frequency: int) -> float:
    # Robertson/Sparck Jones with +1 inside the logarithm, as in Lucene and tantivy: never negative.
    return math.log(1 + (texts - frequency + 0.5) / (frequency + 0.5))
