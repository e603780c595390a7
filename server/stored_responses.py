"""Responses that their callers may read again, continue and delete, until their days are over.

They are the caller's, unlike the journal, which is the operator's: a deleted one leaves no byte here. All
calls block; every look-up names the tenant.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from indexer.database import writing
from server.errors import NotFound
from server.schema import open_schema, responses

DAY = 86_400.0
LONGEST_CHAIN = 1_024  # responses; each is at least a question and an answer, and a call takes 2,048 messages


@dataclass(frozen=True, slots=True)
class StoredResponse:
    id: str
    previous: str | None
    items: Sequence[Mapping[str, Any]]
    body: Mapping[str, Any]


class StoredResponses:
    """The responses of one journal database, kept for `retention_days`."""

    def __init__(self, engine: Engine, *, retention_days: float) -> None:
        open_schema(engine)
        self._engine = engine
        self._keep_seconds = retention_days * DAY

    @property
    def keeps(self) -> bool:
        return self._keep_seconds > 0

    def save(self, tenant: str, stored: StoredResponse) -> None:
        """On disk when this returns. Also the moment when those whose days are over go."""
        now = time.time()
        row = {
            "id": stored.id,
            "tenant": tenant,
            "created_at": now,
            "expires_at": now + self._keep_seconds,
            "previous": stored.previous,
            "items": json.dumps(stored.items, ensure_ascii=False),
            "body": json.dumps(stored.body, ensure_ascii=False),
        }
        with writing(self._engine) as connection:
            connection.execute(delete(responses).where(responses.c.expires_at <= now))
            connection.execute(insert(responses).values(row))

    def get(self, tenant: str, response_id: str) -> StoredResponse:
        """Raises NotFound: absent, deleted, expired, never stored, or another tenant's."""
        wanted = select(responses).where(
            responses.c.id == response_id,
            responses.c.tenant == tenant,
            responses.c.expires_at > time.time(),
        )
        with self._engine.connect() as connection:
            row = connection.execute(wanted).mappings().first()
        if row is None:
            raise NotFound("there is no such response; it may be deleted, expired, or made with store: false")
        return StoredResponse(row["id"], row["previous"], json.loads(row["items"]), json.loads(row["body"]))

    def chain(self, tenant: str, response_id: str) -> list[StoredResponse]:
        """The response and all that it continues, oldest first. Raises NotFound when a link is missing."""
        links: list[StoredResponse] = []
        following: str | None = response_id
        while following is not None and len(links) < LONGEST_CHAIN:
            links.append(self.get(tenant, following))
            following = links[-1].previous
        return links[::-1]

    def delete(self, tenant: str, response_id: str) -> None:
        """Raises NotFound."""
        self.get(tenant, response_id)
        mine = responses.c.id == response_id, responses.c.tenant == tenant
        with writing(self._engine) as connection:
            connection.execute(delete(responses).where(*mine))
