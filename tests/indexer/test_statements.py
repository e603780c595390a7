"""Reads of a search: the rows that SQLAlchemy gives, without its way to them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.database import open_database, writing
from indexer.errors import StoreDamaged
from indexer.lookup import _PASSAGES, _STORES, _WORDINGS
from indexer.statements import _IDLE, KEPT, REMEMBERED, OneOf, Statement

TABLE = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("more", sa.JSON(none_as_null=True)),
    sa.Column("share", sa.Float),
)
SOME = sa.select(TABLE, (TABLE.c.id + 1).label("next"))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXTS
MORE = st.none() | st.lists(VALUES, max_size=3) | st.dictionaries(TEXTS, VALUES, max_size=3)
ROWS = st.lists(
    st.tuples(TEXTS, MORE, st.none() | st.floats(allow_nan=False, allow_infinity=False)), max_size=6
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = open_database(tmp_path_factory.mktemp("things") / "things.db")
    TABLE.metadata.create_all(engine)
    yield engine
    engine.dispose()


@settings(max_examples=40)  # each one is written to the disk
@given(ROWS, st.lists(st.integers(0, 9)))
def test_the_rows_are_those_that_sqlalchemy_gives(engine, rows, ids):
    with writing(engine) as connection:
        connection.execute(TABLE.delete())
        named = [
            dict(zip(("id", "text", "more", "share"), (at, *row), strict=True)) for at, row in enumerate(rows)
        ]
        if named:
            connection.execute(TABLE.insert(), named)
    with engine.connect() as connection:
        expected = connection.execute(SOME.where(TABLE.c.id.in_(ids))).all()
    found = Statement(SOME.where(OneOf(TABLE.c.id, "ids"))).rows(engine, ids=ids)
    assert sorted(map(tuple, found), key=lambda row: row[0]) == sorted(map(tuple, expected))


def test_a_search_reads_by_its_indexes_however_many_ids_it_asks_for(catalogue):
    for statement, names in ((_PASSAGES, "ids"), (_WORDINGS, "ids"), (_STORES, "names")):
        statement.rows(catalogue.engine, **{names: list(range(70_000))})  # more than SQLite has variables
        with catalogue.engine.connect() as connection:
            raw = connection.connection.cursor()
            known = statement.compiled(catalogue.engine.dialect)
            plan = raw.execute(f"EXPLAIN QUERY PLAN {known.text}", {**known.constants, names: "[]"})
            scans = [row[3] for row in plan.fetchall() if row[3].startswith("SCAN")]
        assert scans
        assert all("json_each" in scan for scan in scans)


def test_a_failed_read_is_sqlalchemys_error_and_the_next_one_works(engine):
    missing = sa.Table("missing", sa.MetaData(), sa.Column("id", sa.Integer))
    statement = Statement(sa.select(missing).where(OneOf(missing.c.id, "ids")))
    for _ in range(40):  # more than the pool holds: none of them is kept
        with pytest.raises(sa.exc.OperationalError, match="no such table"):
            statement.rows(engine, ids=[1])
    missing.create(engine)
    assert statement.rows(engine, ids=[1]) == []


def test_half_a_character_is_the_name_of_nothing(engine):
    assert Statement(SOME.where(OneOf(TABLE.c.text, "texts"))).rows(engine, texts=["\ud800"]) == []


def test_bytes_that_are_no_text_are_damage(engine):
    with writing(engine) as connection:
        connection.execute(TABLE.delete())
        connection.exec_driver_sql("INSERT INTO things (id, text) VALUES (1, CAST(x'ff' AS TEXT))")
    with pytest.raises(StoreDamaged, match="fewshot verify"):
        Statement(SOME.where(OneOf(TABLE.c.id, "ids"))).rows(engine, ids=[1])


def test_what_an_asker_read_is_read_again_when_anybody_has_written(tmp_path):
    engine, other = (open_database(tmp_path / "things.db") for _ in range(2))
    TABLE.metadata.create_all(engine)
    statement = Statement(SOME.where(OneOf(TABLE.c.id, "ids")))

    def texts(asker="me", ids=(1, 2)):
        return [row[1] for row in statement.rows(engine, asker=asker, ids=list(ids))]

    assert texts() == []
    for turn, writer in enumerate((engine, other, engine)):
        with writing(writer) as connection:
            connection.execute(TABLE.insert(), [{"id": turn, "text": str(turn)}])
        expected = [str(at) for at in (1, 2) if at <= turn]
        assert texts() == texts() == texts("another") == expected
        assert texts(ids=[0]) == ["0"]
    first = statement.rows(engine, asker="me", ids=[1])
    assert statement.rows(engine, asker="me", ids=[1]) is first
    assert statement.rows(engine, asker="another", ids=[1]) is not first  # whose time tells nothing of mine
    assert statement.rows(engine, ids=[1]) is not first
    for at in range(2 * REMEMBERED):
        texts(ids=[at])
    (reader,) = _IDLE.of(engine)
    assert len(reader.known()) <= REMEMBERED
    engine.dispose()
    other.dispose()


def test_reads_at_once_keep_few_connections_and_give_all_back_when_the_engine_goes(tmp_path):
    engine = open_database(tmp_path / "things.db")
    TABLE.metadata.create_all(engine)
    with writing(engine) as connection:
        connection.execute(TABLE.insert(), [{"id": at, "text": str(at)} for at in range(50)])
    statement = Statement(SOME.where(OneOf(TABLE.c.id, "ids")))
    with ThreadPoolExecutor(3 * KEPT) as threads:
        found = list(threads.map(lambda at: statement.rows(engine, ids=[at % 50]), range(300)))
    assert [rows[0][1] for rows in found] == [str(at % 50) for at in range(300)]
    kept = _IDLE.of(engine)
    assert 0 < len(kept) <= KEPT
    opened = [one.raw.driver_connection for one in kept]
    with writing(engine) as connection:  # what waits holds nothing, and sees what others wrote
        connection.execute(TABLE.update().values(text="new"))
    assert statement.rows(engine, ids=[1])[0][1] == "new"
    engine.dispose()
    for one in opened:
        with pytest.raises(Exception, match="closed database"):
            one.execute("SELECT 1")
    assert statement.rows(engine, ids=[2])[0][1] == "new"  # an engine goes on after it
    engine.dispose()
