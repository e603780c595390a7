"""API keys: shown once, kept as a keyed hash, looked up by their prefix."""

import hmac
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Engine, Float, LargeBinary, MetaData, Table, Text, insert, select, update

from indexer.database import writing

SCOPES = ("infer", "files", "feedback", "audit", "admin")
metadata = MetaData()
keys = Table(
    "keys",
    metadata,
    Column("prefix", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),  # HMAC-SHA-256(pepper, key): full entropy needs no bcrypt
    Column("tenant", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)


@dataclass(frozen=True, slots=True)
class Key:
    """What a valid key entitles to."""

    prefix: str
    tenant: str
    scopes: frozenset[str]
    created_at: float = 0.0
    revoked: bool = False


LOCAL = Key("local", "local", frozenset(SCOPES))  # everybody, when keys are off and the server is on loopback


class Keys:
    """The keys of one journal database. Every call asks the database: a revocation counts at once."""

    def __init__(self, engine: Engine, *, pepper: bytes) -> None:
        metadata.create_all(engine)
        self._engine = engine
        self._pepper = pepper

    def create(self, *, tenant: str, scopes: Sequence[str], days: float | None = None) -> str:
        """A new key, in the only moment it can be read.

        Raises ValueError naming a scope that does not exist.
        """
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise ValueError(f"no scope {', '.join(unknown)}; there are {', '.join(SCOPES)}")
        prefix = secrets.token_hex(4)
        key = f"fsk_{prefix}_{secrets.token_urlsafe(32)}"
        now = time.time()
        row = {
            "prefix": prefix,
            "digest": self._digest(key),
            "tenant": tenant,
            "scopes": " ".join(scopes),
            "created_at": now,
            "expires_at": now + days * 86400 if days else None,
        }
        with writing(self._engine) as connection:
            connection.execute(insert(keys).values(row))
        return key

    def check(self, presented: str) -> Key | None:
        """The key's rights, or None for missing, unknown, revoked and expired alike."""
        prefix = presented.split("_")[1] if presented.startswith("fsk_") and presented.count("_") >= 2 else ""
        with self._engine.connect() as connection:
            row = connection.execute(select(keys).where(keys.c.prefix == prefix)).mappings().first()
        known = row["digest"] if row else bytes(32)
        right = hmac.compare_digest(known, self._digest(presented))
        if not right or row is None or row["revoked_at"]:
            return None
        if row["expires_at"] and row["expires_at"] < time.time():
            return None
        return Key(prefix, row["tenant"], frozenset(row["scopes"].split()), row["created_at"])

    def list(self) -> tuple[Key, ...]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at)).mappings().all()
        return tuple(
            Key(
                row["prefix"],
                row["tenant"],
                frozenset(row["scopes"].split()),
                row["created_at"],
                bool(row["revoked_at"]),
            )
            for row in rows
        )

    def revoke(self, prefix: str) -> bool:
        """True when there was such a key and it was still valid."""
        change = update(keys).where(keys.c.prefix == prefix, keys.c.revoked_at.is_(None))
        with writing(self._engine) as connection:
            return bool(connection.execute(change.values(revoked_at=time.time())).rowcount)

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode(), "sha256")


def read_secret(data: Path) -> bytes:
    """The server's secret (key pepper, cache salts, unit hashes): FEWSHOT_KEY_PEPPER, else a 0600 file.

    The file is made on first use; losing it voids every key.
    """
    given = os.environ.get("FEWSHOT_KEY_PEPPER")
    if given:
        return given.encode()
    path = data / "secret"
    data.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()
