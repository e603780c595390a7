"""Stores as their owners see them: made, named, counted, expired. A tenant sees its own and the common ones.

A store made on the command line belongs to no tenant: all may search it, its operator (the tenant `local`,
who is everybody while keys are off) alone may change it.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import StoreNotYours, UnknownStore
from indexer.lookup import DAY_SECONDS
from indexer.paging import Page, Window, page, within
from indexer.records import Store
from indexer.seams import Embedder

OPERATOR = "local"
STATES = ("in_progress", "completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store with what its owner says of it, and what it holds."""

    store: Store
    tenant: str | None
    label: str
    description: str | None
    metadata: Mapping[str, str]
    expires_days: int | None  # after the last search or new file
    last_active_at: int
    files: Mapping[str, int]  # by state
    size_bytes: int  # of the completed files
    chunks: int

    @property
    def expires_at(self) -> int | None:
        """Unix seconds."""
        return None if self.expires_days is None else self.last_active_at + self.expires_days * DAY_SECONDS

    @property
    def expired(self) -> bool:
        """It answers no search any more."""
        return self.expires_at is not None and time.time() >= self.expires_at


def create(
    connection: sa.Connection,
    embedder: Embedder,
    *,
    tenant: str,
    label: str,
    description: str | None,
    metadata: Mapping[str, str],
    expires_days: int | None,
    store_id: str | None = None,
) -> str:
    """The id of a new store of the tenant, within the caller's transaction; a fresh one if none is given."""
    store_id, series, now = store_id or f"vs_{ULID()}", str(ULID()), int(time.time())
    vectors = {
        "embedder": embedder.name,
        "embedder_digest": embedder.digest,
        "dimension": embedder.dimension,
        "created_at": now,
    }
    row = {
        "id": store_id,
        "name": store_id,  # names are unique over all tenants, so a given one would tell of the others'
        "generation": 0,
        "series": series,
        "options": {},
        "tenant": tenant,
        "label": label,
        "description": description,
        "metadata": dict(metadata),
        "expires_days": expires_days,
        "last_active_at": now,
    }
    connection.execute(schema.stores.insert(), {**row, **vectors})
    connection.execute(schema.series.insert(), {"id": series, "store_id": store_id, **vectors})
    return store_id


def find(catalogue: Catalogue, tenant: str, store_id: str) -> StoreStatus:
    """The store of that id, or name for a common one. Raises `UnknownStore`, also for another tenant's."""
    with catalogue.engine.connect() as connection:
        return _status(connection, [_visible(connection, tenant, store_id)])[0]


def listed(catalogue: Catalogue, tenant: str, window: Window) -> Page[StoreStatus]:
    """The stores that the tenant sees."""
    table = schema.stores
    query = sa.select(table).where(_seen_by(tenant), table.c.deleted_at.is_(None))
    with catalogue.engine.connect() as connection:
        rows = connection.execute(within(query, table.c.id, window)).mappings().all()
        return page(_status(connection, rows), window)


def change(catalogue: Catalogue, tenant: str, store_id: str, values: Mapping[str, Any]) -> StoreStatus:
    """Set label, description, metadata or expires_days. Raises `UnknownStore`, `StoreNotYours`."""
    with writing(catalogue.engine) as connection:
        store = owned(connection, tenant, store_id)
        new = {**values, "last_active_at": int(time.time())}
        connection.execute(sa.update(schema.stores).where(schema.stores.c.id == store.id).values(new))
        return _status(connection, [_visible(connection, tenant, store.id)])[0]


def delete(catalogue: Catalogue, tenant: str, store_id: str) -> str:
    """No search finds the store any more; its id. Raises `UnknownStore`, `StoreNotYours`."""
    stores = schema.stores
    with writing(catalogue.engine) as connection:
        store = owned(connection, tenant, store_id)
        gone = sa.update(stores).where(stores.c.id == store.id)
        connection.execute(gone.values(deleted_at=int(time.time()), name=stores.c.id))
    return store.id


def seen(connection: sa.Connection, tenant: str, store_id: str) -> Store:
    """The store, if the tenant may read it. Raises `UnknownStore`."""
    return _store(_visible(connection, tenant, store_id))


def owned(connection: sa.Connection, tenant: str, store_id: str) -> Store:
    """The store, if the tenant may change it. Raises `UnknownStore`, `StoreNotYours`."""
    row = _visible(connection, tenant, store_id)
    if row["tenant"] is None and tenant != OPERATOR:
        raise StoreNotYours(
            f"vector store '{row['name']}' was made on the command line and is changed there: "
            "make one of your own"
        )
    return _store(row)


def _visible(connection: sa.Connection, tenant: str, store_id: str) -> sa.RowMapping:
    table = schema.stores
    named = sa.or_(table.c.id == store_id, table.c.name == store_id)
    query = sa.select(table).where(named, _seen_by(tenant), table.c.deleted_at.is_(None))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise UnknownStore(f"no vector store '{store_id}'")
    return row


def _seen_by(tenant: str) -> sa.ColumnElement[bool]:
    return sa.or_(schema.stores.c.tenant == tenant, schema.stores.c.tenant.is_(None))


def _store(row: sa.RowMapping) -> Store:
    return Store(**{field.name: row[field.name] for field in fields(Store)})


def _status(connection: sa.Connection, rows: Sequence[sa.RowMapping]) -> list[StoreStatus]:
    files, counted = schema.files, sa.func.count()
    query = (
        sa.select(
            files.c.store_id,
            files.c.state,
            counted,
            sa.func.coalesce(sa.func.sum(files.c.size_bytes), 0),
            sa.func.coalesce(sa.func.sum(files.c.chunks), 0),
        )
        .where(files.c.store_id.in_([row["id"] for row in rows]), files.c.state != "deleted")
        .group_by(files.c.store_id, files.c.state)
    )
    states: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(STATES, 0))
    sizes: dict[str, int] = defaultdict(int)
    chunks: dict[str, int] = defaultdict(int)
    for store_id, state, many, size, parts in connection.execute(query):
        states[store_id][state] = many
        chunks[store_id] += int(parts)
        if state == "completed":
            sizes[store_id] += int(size)
    return [
        StoreStatus(
            store=_store(row),
            tenant=row["tenant"],
            label=row["name"] if row["label"] is None else row["label"],
            description=row["description"],
            metadata=row["metadata"],
            expires_days=row["expires_days"],
            last_active_at=row["last_active_at"] or row["created_at"],
            files=states[row["id"]],
            size_bytes=sizes[row["id"]],
            chunks=chunks[row["id"]],
        )
        for row in rows
    ]
