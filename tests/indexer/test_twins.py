"""Chunks that say nearly the same are known as such."""

import json
import random

import pytest
import sqlalchemy as sa

from indexer import inventory, schema
from indexer.deleting import delete_document
from indexer.erasure import purge
from indexer.twins import alike, likeness

TEXT = (
    "The quick brown fox jumps over the lazy dog while the sun goes down behind the hills and the river runs "
    "on through the valley where the old mill stands, its wheel turning slowly as it has for many a year."
)


@pytest.fixture
def twin_of(catalogue):
    """External id → external id of the row it repeats, or None."""

    def read() -> dict[str, str | None]:
        chunks, documents = schema.chunks, schema.documents
        query = sa.select(documents.c.external_id, chunks.c.id, chunks.c.twin_of).join(documents)
        with catalogue.engine.connect() as connection:
            rows = connection.execute(query.where(chunks.c.died.is_(None))).all()
        names = {row.id: row.external_id for row in rows}
        return {row.external_id: row.twin_of and names[row.twin_of] for row in rows}

    return read


def write(path, **texts: str) -> None:
    path.write_text("\n".join(json.dumps({"id": row, "text": text}) for row, text in texts.items()))


def edited(text: str, words: int, chance: random.Random) -> str:
    parts = text.split()
    for at in chance.sample(range(len(parts)), words):
        parts[at] = f"other{chance.randrange(10**6)}"
    return " ".join(parts)


def test_case_spacing_and_punctuation_do_not_count():
    assert alike(likeness(TEXT), likeness(TEXT.upper().replace(",", " ;  ").replace(".", "!")))


def test_bands_meet_as_the_formula_says():
    chance = random.Random(1)
    shares: dict[int, list[bool]] = {10: [], 8: [], 4: []}  # similarity in tenths
    for changed in [0, 1, 2, 3, 4, 6, 16, 17, 18, 20] * 40:
        base = " ".join(f"w{chance.randrange(10**6)}" for _ in range(120))
        one, two = likeness(base), likeness(edited(base, changed, chance))
        shared, either = (
            set(one.runs.tolist()) & set(two.runs.tolist()),
            set(one.runs.tolist() + two.runs.tolist()),
        )
        tenths = int(10 * len(shared) / len(either))
        assert alike(one, two) == (len(shared) >= 0.8 * len(either))
        if tenths in shares:
            shares[tenths].append(bool(set(one.bands) & set(two.bands)))
    assert all(shares[10])
    assert len(shares[8]) > 20
    assert sum(shares[8]) / len(shares[8]) > 0.9
    assert len(shares[4]) > 20
    assert sum(shares[4]) / len(shares[4]) < 0.5


def test_a_twin_points_to_the_first_and_inherits_its_place(put, folder, catalogue, twin_of):
    short = TEXT.partition(",")[0]
    write(
        folder / "a.jsonl",
        first=short,
        other="Nothing of the kind is said here, and that at some length too, indeed.",
    )
    put()
    write(folder / "b.jsonl", second=short + " Yes.", third=short.upper())
    put()
    assert twin_of() == {"first": None, "other": None, "second": "first", "third": "first"}
    assert inventory.take(catalogue, catalogue.store("docs")).twins == 2
    delete_document(catalogue, catalogue.store("docs"), "first")
    assert twin_of() == {"other": None, "second": None, "third": "second"}
    purge(catalogue)
    write(folder / "c.jsonl", fourth=short + " No.")
    put()
    assert twin_of() == {"other": None, "second": None, "third": "second", "fourth": "second"}
    with catalogue.engine.connect() as connection:
        dangling = sa.select(sa.func.count()).where(
            schema.likenesses.c.chunk_id.not_in(sa.select(schema.chunks.c.id))
        )
        assert connection.execute(dangling).scalar_one() == 0


def test_a_changed_row_is_no_twin_of_what_it_was(put, folder, twin_of):
    short = TEXT.partition(",")[0]
    write(folder / "a.jsonl", row=short)
    put()
    write(folder / "a.jsonl", row=short + " Yes.", again=short)
    put()
    assert twin_of() == {"row": None, "again": "row"}


def test_short_texts_are_never_twins(put, folder, twin_of):
    write(folder / "a.jsonl", a="Yes, it is so.", b="Yes, it is so!")
    put()
    assert set(twin_of().values()) == {None}
