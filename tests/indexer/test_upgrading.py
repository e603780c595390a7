"""A database is the old one or the new one, and whoever does not know it keeps away."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from indexer import schema
from indexer.catalogue import FILE, Catalogue
from indexer.commands.stores import stores
from indexer.database import open_database, writing
from indexer.errors import DatabaseRefused
from indexer.upgrading import backups
from tests.indexer.releases import DEVELOPMENT_2, RELEASE_0_1_0, write_release

KILLED = """
import os, shutil, sys
from pathlib import Path
import sqlalchemy as sa
from alembic import command
from indexer.catalogue import Catalogue

old, folder, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
statement = step - 1
while True:
    target = folder / str(statement)
    target.mkdir()
    shutil.copy(old, target / "catalogue.db")
    child = os.fork()
    if not child:
        left = statement
        def strike(*_):
            global left
            if not left:
                os._exit(9)
            left -= 1
        sa.event.listen(sa.Engine, "after_cursor_execute", strike)
        Catalogue(target)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        break
    statement += step
"""


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, by the columns release 0.1.0 had."""
    engine = open_database(path)
    with engine.connect() as connection:
        found: dict[str, list[tuple[object, ...]]] = {}
        for table in ("stores", "files", "documents", "chunks", "segments", "generations", "counters"):
            columns = [column["name"] for column in sa.inspect(connection).get_columns(table)]
            first = OLD_COLUMNS.setdefault(table, columns)
            assert set(first) <= set(columns)
            chosen = ", ".join(f'"{column}"' for column in first)
            found[table] = [
                tuple(row) for row in connection.execute(sa.text(f"SELECT {chosen} FROM {table}"))
            ]
        version = connection.execute(sa.text("PRAGMA user_version")).scalar_one()
        has_series = sa.inspect(connection).has_table("series")
    engine.dispose()
    assert has_series is (version == schema.VERSION)
    found["version"] = [(version,)]
    return found


OLD_COLUMNS: dict[str, list[str]] = {}


def test_the_revisions_make_what_the_code_says(catalogue):
    with catalogue.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


@pytest.mark.parametrize("scripts", [(RELEASE_0_1_0,), (RELEASE_0_1_0, DEVELOPMENT_2)])
def test_a_store_of_an_older_release_goes_on(tmp_path, scripts):
    write_release(tmp_path / FILE, *scripts)
    before = content(tmp_path / FILE)
    catalogue = Catalogue(tmp_path)
    store = catalogue.store("docs")
    generation = catalogue.generation(store.id)
    assert (generation.number, generation.embedder, generation.dimension) == (2, "hash", 64)
    assert generation.series == store.series == "vs_1"
    assert [segment.id for segment in generation.segments] == ["seg"]
    assert generation.dead == {3}
    assert catalogue.counts(store).chunks == 2
    chunk = sa.select(schema.chunks).where(schema.chunks.c.id == 1, schema.chunks.c.died.is_(None))
    with catalogue.engine.connect() as connection:
        row = connection.execute(chunk).mappings().one()
    assert (row["text"], row["headings"], row["lead"], row["twin_of"]) == ("one", [], "", None)
    with catalogue.engine.connect() as connection:
        assert connection.execute(sa.select(schema.files.c.chunks)).scalars().all() == [2]
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []
    catalogue.close()
    after = content(tmp_path / FILE)
    assert {**after, "version": before["version"]} == before
    assert [content(path) for path in backups(tmp_path / FILE)] == [before]  # the copy is the old file


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_an_upgrade_killed_between_any_two_statements_is_done_or_undone(tmp_path, step):
    write_release(tmp_path / "old.db", RELEASE_0_1_0)
    (tmp_path / "tries").mkdir()
    before = content(tmp_path / "old.db")
    command = [sys.executable, "-c", KILLED, tmp_path / "old.db", tmp_path / "tries", str(step)]
    subprocess.run(command, check=True)
    tries = sorted((tmp_path / "tries").iterdir())
    assert len(tries) > 30 // step
    for folder in tries:
        found = content(folder / FILE)
        assert found["version"] in ([(1,)], [(schema.VERSION,)])
        assert {**found, "version": [(1,)]} == before
        Catalogue(folder).close()  # and the next start completes it
        assert content(folder / FILE)["version"] == [(schema.VERSION,)]
        assert list(folder.glob("*.unfinished")) == []


def test_two_that_upgrade_at_once_do_it_once(tmp_path):
    write_release(tmp_path / FILE, RELEASE_0_1_0)
    program = (
        "import sys; from pathlib import Path; from indexer.catalogue import Catalogue; "
        "Catalogue(Path(sys.argv[1]))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, tmp_path]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert content(tmp_path / FILE)["version"] == [(schema.VERSION,)]


def test_a_newer_catalogue_is_refused_with_78(tmp_path):
    from click.testing import CliRunner

    Catalogue(tmp_path).close()
    engine = open_database(tmp_path / FILE)
    with writing(engine) as connection:
        connection.execute(sa.text(f"PRAGMA user_version = {schema.VERSION + 1}"))
    engine.dispose()
    with pytest.raises(DatabaseRefused, match="upgrade fewshot"):
        Catalogue(tmp_path)
    result = CliRunner().invoke(stores, ["--data", str(tmp_path)])
    assert result.exit_code == 78
    assert "upgrade fewshot" in result.stderr


def test_the_revisions_are_in_the_package():
    numbers = [int(path.name[1]) for path in sorted((schema.REVISIONS / "versions").glob("v*.py"))]
    assert numbers == list(range(1, schema.VERSION + 1))
    assert (schema.REVISIONS / "versions" / "__init__.py").exists()  # or a wheel would leave them out
