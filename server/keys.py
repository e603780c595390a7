"""API keys: shown once, kept as a keyed hash, looked up by their prefix."""

import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from indexer.database import writing
from indexer.durability import make_folder, sync
from server.quotas import UNSAID, Rates
from server.refusal import Refusal
from server.schema import keys, open_schema

log = logging.getLogger("fewshot.keys")

SCOPES = ("infer", "files", "feedback", "audit", "admin")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_CHARS = 120
NOTE_SECONDS = 60.0  # how exactly the last use is known: a write a request would be a disk flush a request


@dataclass(frozen=True, slots=True)
class Key:
    """What a key entitles to, and its life so far. Times are seconds since the epoch."""

    prefix: str
    tenant: str
    scopes: frozenset[str]
    created_at: float = 0.0
    name: str | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None  # to the minute
    rates: Rates = UNSAID

    @property
    def state(self) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and self.expires_at <= time.time()
        return "expired" if expired else "active"


LOCAL = Key("local", "local", frozenset(SCOPES))  # everybody, when keys are off and the server is on loopback


class Keys:
    """The keys of one journal database. Every call asks the database: a revocation counts at once."""

    def __init__(self, engine: Engine, *, pepper: bytes) -> None:
        open_schema(engine)
        self._engine = engine
        self._pepper = pepper
        self._noted: dict[str, float] = {}  # prefix → when its use was last written down
        self._noting = threading.Lock()

    def create(
        self,
        *,
        tenant: str,
        scopes: Sequence[str],
        name: str | None = None,
        days: float | None = None,
        rates: Rates = UNSAID,
    ) -> str:
        """A new key, in the only moment it can be read.

        Raises ValueError naming a scope that does not exist, a tenant or name that is none.
        """
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise ValueError(f"no scope {', '.join(unknown)}; there are {', '.join(SCOPES)}")
        if not TENANT.fullmatch(tenant):
            raise ValueError("a tenant is 1 to 64 letters, digits, dots, dashes and underscores")
        if name is not None and not (0 < len(name) <= NAME_CHARS and name.isprintable()):
            raise ValueError(f"a key's name is 1 to {NAME_CHARS} printable characters")
        prefix = secrets.token_hex(4)
        key = f"fsk_{prefix}_{secrets.token_urlsafe(32)}"
        now = time.time()
        row = {
            "prefix": prefix,
            "digest": self._digest(key),
            "tenant": tenant,
            "scopes": " ".join(scope for scope in SCOPES if scope in scopes),
            "created_at": now,
            "expires_at": None if days is None else now + days * 86400,
            "name": name,
            "requests_per_minute": rates.requests_per_minute,
            "tokens_per_minute": rates.tokens_per_minute,
            "concurrent": rates.concurrent,
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
        if not right or row is None:
            return None
        key = _key(row)
        if key.state != "active":
            return None
        self._note_use(key)
        return key

    def list(self) -> tuple[Key, ...]:
        """All keys there ever were, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at)).mappings().all()
        return tuple(map(_key, rows))

    def revoke(self, prefix: str) -> bool:
        """True when there was such a key and it was not revoked before."""
        change = update(keys).where(keys.c.prefix == prefix, keys.c.revoked_at.is_(None))
        with writing(self._engine) as connection:
            return bool(connection.execute(change.values(revoked_at=time.time())).rowcount)

    def _note_use(self, key: Key) -> None:
        now = time.time()
        with self._noting:
            if now - max(key.used_at or 0.0, self._noted.get(key.prefix, 0.0)) < NOTE_SECONDS:
                return
            self._noted[key.prefix] = now
        try:
            with writing(self._engine) as connection:
                connection.execute(update(keys).where(keys.c.prefix == key.prefix).values(used_at=now))
        except SQLAlchemyError as problem:  # a full disk must not lock callers out
            log.warning("the use of a key could not be written down: %s", type(problem).__name__)

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode(), "sha256")


def _key(row: Mapping[Any, Any]) -> Key:
    return Key(
        prefix=row["prefix"],
        tenant=row["tenant"],
        scopes=frozenset(row["scopes"].split()),
        created_at=row["created_at"],
        name=row["name"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        used_at=row["used_at"],
        rates=Rates(row["requests_per_minute"], row["tokens_per_minute"], row["concurrent"]),
    )


def read_secret(data: Path) -> bytes:
    """The server's secret (key pepper, cache salts, unit hashes): FEWSHOT_KEY_PEPPER, else a 0600 file.

    The file is made on first use, whole or not at all; losing it voids every key. Raises Refusal for a file
    that others may read, or that holds nothing.
    """
    given = os.environ.get("FEWSHOT_KEY_PEPPER")
    if given:
        return given.encode()
    path = data / "secret"
    if not path.exists():
        _write_secret(path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise Refusal(
            f"{path} may be read by others (mode {mode:04o}): chmod 600 it, or set FEWSHOT_KEY_PEPPER. If "
            "anybody else had access, make new keys: delete it and every key is void"
        )
    secret = path.read_bytes()
    if len(secret) < 16:
        raise Refusal(f"{path} is damaged: restore it from a backup, or delete it and make new keys")
    return secret


def _write_secret(path: Path) -> None:
    """A fresh secret under that name, unless somebody else was faster."""
    make_folder(path.parent)
    unfinished = path.with_name(f"secret.{secrets.token_hex(8)}.unfinished")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(unfinished, path)  # unlike a rename it replaces nothing
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    sync(path.parent)  # every key is void without it
