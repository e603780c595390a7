"""What was deleted on request leaves the journal: texts and tokens go, ids and fingerprints stay."""

import re
import time
from collections.abc import Sequence

from sqlalchemy import Engine, delete, exists, func, select, update

from indexer.database import writing
from server.schema import open_schema, plans, replies, responses

CHUNK_ID = re.compile(r'"chunk_id": "([^"]+)"')  # in the body of a stored response
GROUP = 512  # chunks a query


def erase_texts(engine: Engine, chunk_ids: Sequence[str]) -> int:
    """`Journal.erase` for a journal that nobody has open here. Makes the tables if there are none.

    Stored responses that show one of the chunks among their results or citations go whole.
    Raises `DatabaseRefused` when the journal is of a newer release.
    """
    open_schema(engine)
    turns: set[str] = set()
    wanted = frozenset(chunk_ids)
    with writing(engine) as connection:
        for at in range(0, len(chunk_ids), GROUP):
            used = func.json_each(plans.c.chunks).table_valued("value")
            some = exists().select_from(used).where(used.c.value.in_(chunk_ids[at : at + GROUP]))
            turns.update(connection.execute(select(plans.c.turn).where(some)).scalars())
        for turn in sorted(turns):
            connection.execute(
                update(plans)
                .where(plans.c.turn == turn)
                .values(
                    messages=None,
                    prompt_ids=None,
                    queries=None,
                    asked=None,
                    variables=None,
                    erased_at=func.coalesce(plans.c.erased_at, time.time()),
                )
            )
            connection.execute(
                update(replies).where(replies.c.turn == turn).values(texts=None, calls=None, token_ids=None)
            )
        for response, body in connection.execute(select(responses.c.id, responses.c.body)).all():
            if wanted & set(CHUNK_ID.findall(body)):
                connection.execute(delete(responses).where(responses.c.id == response))
    return len(turns)
