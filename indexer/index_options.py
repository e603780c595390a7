"""What a store's owner asks of its vector indexes, kept in the store."""

from collections.abc import Mapping

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.records import Store
from indexer.vectors import Wanted, wanted


def ask(catalogue: Catalogue, store: Store, changes: Mapping[str, object]) -> Wanted:
    """Change some of the options; segments written from now on follow. All of them after the change.

    Raises `IndexOptionRefused` when they do not go together; then nothing is changed.
    """
    stores = schema.stores
    with writing(catalogue.engine) as connection:
        mine = stores.c.id == store.id
        options = dict(connection.execute(sa.select(stores.c.options).where(mine)).scalar_one())
        asked = {**options.get("index", {}), **changes}
        if asked.get("kind", "auto") != "milvus" and "kind" in changes:
            asked.pop("uri", None)  # the server was for the old kind
        checked = wanted(asked)
        options["index"] = asked
        connection.execute(sa.update(stores).where(mine).values(options=options))
    return checked
