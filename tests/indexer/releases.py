"""Databases as older releases wrote them, in the words those releases used."""

from pathlib import Path

import sqlalchemy as sa

from indexer.database import open_database, writing

RELEASE_0_1_0 = """
CREATE TABLE stores (id VARCHAR NOT NULL, name VARCHAR NOT NULL, embedder VARCHAR NOT NULL,
    embedder_digest VARCHAR NOT NULL, dimension INTEGER NOT NULL, generation INTEGER NOT NULL,
    created_at INTEGER NOT NULL, PRIMARY KEY (id), UNIQUE (name));
CREATE TABLE counters (name VARCHAR NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (name));
CREATE TABLE files (id VARCHAR NOT NULL, store_id VARCHAR NOT NULL, source VARCHAR NOT NULL,
    filename VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, size_bytes INTEGER NOT NULL, state VARCHAR NOT NULL,
    errors JSON NOT NULL, warnings JSON NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (id),
    UNIQUE (store_id, source), FOREIGN KEY(store_id) REFERENCES stores (id));
CREATE TABLE segments (id VARCHAR NOT NULL, store_id VARCHAR NOT NULL, chunks INTEGER NOT NULL,
    files JSON NOT NULL, born INTEGER NOT NULL, PRIMARY KEY (id),
    FOREIGN KEY(store_id) REFERENCES stores (id));
CREATE INDEX segments_of_store ON segments (store_id);
CREATE TABLE generations (store_id VARCHAR NOT NULL, number INTEGER NOT NULL, published_at INTEGER NOT NULL,
    chunks INTEGER NOT NULL, PRIMARY KEY (store_id, number), FOREIGN KEY(store_id) REFERENCES stores (id));
CREATE TABLE documents (id INTEGER NOT NULL, file_id VARCHAR NOT NULL, "key" VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL, external_id VARCHAR, kind VARCHAR NOT NULL, title VARCHAR NOT NULL,
    text TEXT NOT NULL, pages JSON NOT NULL, attributes JSON NOT NULL, born INTEGER NOT NULL, died INTEGER,
    PRIMARY KEY (id), FOREIGN KEY(file_id) REFERENCES files (id));
CREATE INDEX documents_of_file ON documents (file_id, "key");
CREATE TABLE chunks (id INTEGER NOT NULL, "key" VARCHAR NOT NULL, store_id VARCHAR NOT NULL,
    document_id INTEGER NOT NULL, text TEXT NOT NULL, char_start INTEGER NOT NULL, char_end INTEGER NOT NULL,
    page_start INTEGER, page_end INTEGER, born INTEGER NOT NULL, died INTEGER, PRIMARY KEY (id),
    UNIQUE ("key"), FOREIGN KEY(store_id) REFERENCES stores (id),
    FOREIGN KEY(document_id) REFERENCES documents (id));
CREATE INDEX dead_chunks ON chunks (store_id, died) WHERE died IS NOT NULL;
CREATE INDEX chunks_of_store ON chunks (store_id, id);
CREATE INDEX chunks_of_document ON chunks (document_id);
INSERT INTO stores VALUES ('vs_1', 'docs', 'hash', 'abc', 64, 2, 1700000000);
INSERT INTO counters VALUES ('chunk', 4);
INSERT INTO files VALUES ('file-1', 'vs_1', '/a.md', 'a.md', 'f00d', 12, 'completed', '[]', '[]', 1700000001);
INSERT INTO segments VALUES ('seg', 'vs_1', 3, '{"ids": ["f00d", 5]}', 1);
INSERT INTO generations VALUES ('vs_1', 1, 1700000002, 3);
INSERT INTO generations VALUES ('vs_1', 2, 1700000003, 2);
INSERT INTO documents VALUES
    (1, 'file-1', '', 'd1', NULL, 'text', 'A', 'onetwo', '[[null, 6]]', '{}', 1, NULL);
INSERT INTO documents VALUES (2, 'file-1', 'x', 'd2', 'x', 'text', 'X', 'three', '[[null, 5]]', '{}', 1, 2);
INSERT INTO chunks VALUES (1, 'ch_1', 'vs_1', 1, 'one', 0, 3, NULL, NULL, 1, NULL);
INSERT INTO chunks VALUES (2, 'ch_2', 'vs_1', 1, 'two', 3, 6, 1, 2, 1, NULL);
INSERT INTO chunks VALUES (3, 'ch_3', 'vs_1', 2, 'three', 0, 5, NULL, NULL, 1, 2);
PRAGMA user_version = 1
"""
DEVELOPMENT_2 = """
ALTER TABLE chunks ADD COLUMN headings JSON NOT NULL DEFAULT '[]';
ALTER TABLE chunks ADD COLUMN lead TEXT NOT NULL DEFAULT '';
ALTER TABLE chunks ADD COLUMN parent_start INTEGER;
ALTER TABLE chunks ADD COLUMN parent_end INTEGER;
PRAGMA user_version = 2
"""


def write_release(path: Path, *scripts: str) -> None:
    """A database made by these statements."""
    engine = open_database(path)
    with writing(engine) as connection:
        for statement in ";".join(scripts).split(";"):
            if statement.strip():
                connection.execute(sa.text(statement.replace(":", r"\:")))
    engine.dispose()
