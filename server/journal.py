"""What was asked, what was used, how it ended: append-only, enough to replay any answer.

Three rows a turn. The exposure is written before anything can fail, so that an arm that refuses does not look
better; the plan when the prompt is final; the reply however it ends. One thread commits in groups: callers
never wait for a disk on the event loop, and a row that was awaited is on disk.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Engine, Table, func, or_, select
from ulid import ULID

from server.forgetting import erase_texts
from server.journal_text import as_json, flat, spoken
from server.journal_writer import Writer
from server.recipes import NOBODY, Meeting
from server.records import Plan, Reply, Turn
from server.schema import exposures, open_schema, plans, replies
from server.sources import SourceUse
from server.token_bytes import token_bytes

# The reply as it stands when the stream ends; None means: as the choices finished.
ReplySoFar = Callable[[Literal["cancelled", "failed"] | None], Reply]
PREFIXES = ("chatcmpl-", "cmpl-", "resp_", "clsf-")  # of turns
LONGEST_SECONDS = 3600.0  # no turn is older than that when it ends
OPTIONS = (  # of a plan
    *("n", "choices", "citations", "echo", "prompt_only", "stores"),
    *("search_mode", "demos_requested", "truncation", "functions"),
)
NOTED = ("client_request_id", "idempotency_key", "retry_count", "trace")  # of a turn's headers


class Recording:
    """A block whose plan is journalled when it is entered, and its reply when it is left."""

    def __init__(self, journal: "Journal", plan: Plan, reply: ReplySoFar) -> None:
        self._journal = journal
        self._plan = plan
        self._reply = reply

    async def __aenter__(self) -> None:
        self._journal.plan(self._plan)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._journal.reply(self._reply(None))
        else:
            left = issubclass(kind, asyncio.CancelledError | GeneratorExit)
            self._journal.reply(self._reply("cancelled" if left else "failed"))


class Journal:
    """Writes turns to `engine`'s database from one thread of its own.

    `keep` = "digests" leaves the text and token columns empty: fingerprints and ids only.
    """

    def __init__(self, engine: Engine, *, secret: bytes, keep: Literal["text", "digests"] = "text") -> None:
        open_schema(engine)
        self._engine = engine
        self._secret = secret
        self._keep_text = keep == "text"
        self._writer = Writer(engine)

    @property
    def dropped(self) -> int:
        """Rows that could not be written."""
        return self._writer.dropped

    def expose(self, turn: Turn, met: Meeting = NOBODY) -> "asyncio.Future[None]":
        """Queue the exposure; await the result before the first byte leaves.

        It names an experiment only where the request counts for it.
        """
        unit = met.unit or turn.unit or turn.id
        counted = met.recipe if met.assigned else None
        done = asyncio.get_running_loop().create_future()
        row = {
            "turn": turn.id,
            "at": time.time(),
            "tenant": turn.tenant,
            "unit": unit_key(self._secret, turn.tenant, unit),
            "unit_kind": met.unit_kind or turn.unit_kind,
            "experiment": counted and counted.experiment,
            "arm": counted and counted.arm,
            "phase": met.phase,
            "propensity": met.propensity,
            "slice": met.slice if counted else None,
            "model": turn.model,
            "metadata": as_json(turn.metadata if self._keeps(turn) else {}),
            **dict.fromkeys(NOTED),
            **turn.noted,
        }
        self._writer.now(exposures, row, lambda problem: _settle(done, problem))
        return done

    def plan(self, plan: Plan) -> None:
        used = sorted((source for source in plan.sources if source.used), key=_number) if plan.sources else []
        template, keeps = plan.template, self._keeps(plan.turn)
        self._put(
            plans,
            turn=plan.turn.id,
            base=plan.base,
            base_sha256=plan.base_sha256,
            fingerprint=plan.fingerprint,
            adapter=plan.adapter and plan.adapter.reference,
            adapter_sha256=plan.adapter and plan.adapter.sha256,
            template=template and f"{template.name}@{template.version}",
            template_sha256=template and template.sha256,
            demos=as_json(plan.demos) if plan.demos else "[]",
            pool_sha256=plan.pool_sha256,
            chunks=as_json([source.chunk_id for source in used]) if used else "[]",
            generations=as_json(plan.generations) if plan.generations else "{}",
            dropped=as_json(plan.dropped) if plan.dropped else "{}",
            grounding=plan.grounding,
            limits=as_json({**flat(plan.limits), "cache_salt": None}),
            prompt_sha256=plan.prompt_sha256,
            prompt_tokens=plan.prompt_tokens,
            prompt_ids=(plan.prompt_bytes or token_bytes(plan.prompts)) if keeps else None,
            messages=as_json([spoken(message) for message in plan.messages]) if keeps else None,
            queries=as_json([plan.query.text]) if plan.query and keeps else None,
            rewrite=plan.query.rewrite if plan.query else None,
            served=plan.met.served,
            asked=as_json([flat(message) for message in plan.turn.messages]) if keeps else None,
            variables=as_json(plan.turn.wishes.variables) if keeps else None,
            engine=as_json(plan.engine),
            options=_options(plan),
            prompt_lengths=as_json([len(ids) for ids in plan.prompts]),
        )

    def reply(self, reply: Reply) -> None:
        texts = [choice.text for choice in reply.choices]
        keeps = self._keeps(reply.plan.turn)
        cited = sorted(
            {citation.source.chunk_id for choice in reply.choices for citation in choice.citations}
        )
        self._put(
            replies,
            turn=reply.plan.turn.id,
            outcome=reply.outcome,
            completion_tokens=reply.usage.completion_tokens,
            cached_tokens=reply.usage.cached_tokens,
            cited=as_json(cited) if cited else "[]",
            citations_dropped=reply.citations_dropped,
            first_token_seconds=reply.first_token_seconds,
            total_seconds=reply.total_seconds,
            texts=as_json(texts) if keeps else None,
            calls=as_json([[asdict(call) for call in choice.calls] for choice in reply.choices])
            if keeps and any(choice.calls for choice in reply.choices)
            else None,
            token_ids=token_bytes(tuple(choice.tokens for choice in reply.choices)) if keeps else None,
            texts_sha256=hashlib.sha256(as_json(texts).encode()).hexdigest(),
            token_lengths=as_json([len(choice.tokens) for choice in reply.choices]),
            finishes=as_json([choice.finish for choice in reply.choices]),
        )

    def recording(self, plan: Plan, reply: ReplySoFar) -> "Recording":
        """Journal the plan now and the reply when the block is left, whichever way that is."""
        return Recording(self, plan, reply)

    def find(self, turn_id: str, *, tenant: str | None = None) -> Mapping[str, Any] | None:
        """The three rows of a turn as one mapping, or None; of any tenant where none is named. Blocking."""
        self.wait()
        with self._engine.connect() as connection:
            found: dict[str, Any] = {}
            owner = select(exposures.c.tenant).where(exposures.c.turn == turn_id)
            if tenant is not None and connection.execute(owner).scalar() != tenant:
                return None
            for table in (exposures, plans, replies):
                row = connection.execute(select(table).where(table.c.turn == turn_id)).mappings().first()
                found |= {f"{table.name}.{name}": value for name, value in (row or {}).items()}
            return found or None

    def others(self, row: Mapping[str, Any]) -> int:
        """How many other turns were decoded while the turn of `find`'s rows was. Blocking."""
        began, ended = row.get("plans.at"), row.get("replies.at")
        if began is None or ended is None:
            return 0
        first, last = (str(ULID.from_timestamp(at)) for at in (began - LONGEST_SECONDS, ended + 1))
        near = or_(
            *(plans.c.turn.between(f"{prefix}{first}", f"{prefix}{last}") for prefix in PREFIXES)
        )  # ids sort by time, so the primary key finds them
        beside = (
            select(func.count())
            .select_from(plans.outerjoin(replies, replies.c.turn == plans.c.turn))
            .where(near, plans.c.turn != row["plans.turn"], plans.c.grounding != "refused")
            .where(plans.c.at < ended, or_(replies.c.at.is_(None), replies.c.at > began))
        )
        with self._engine.connect() as connection:
            return int(connection.execute(beside).scalar_one())

    def erase(self, chunk_ids: Sequence[str]) -> int:
        """Empty the texts and tokens of every turn that used one of these chunks; how many turns. Blocking.

        Ids and fingerprints stay: a replay then says that its ingredients were erased.
        """
        self.wait()
        return erase_texts(self._engine, chunk_ids)

    def wait(self) -> None:
        """Block until everything queued so far is written."""
        self._writer.wait()

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._writer.close()
        self._engine.dispose()

    def _put(self, table: Table, **row: Any) -> None:
        self._writer.soon(table, {"at": time.time(), **row})

    def _keeps(self, turn: Turn) -> bool:
        return self._keep_text and turn.keep_text


def _number(source: SourceUse) -> int:
    return source.n


def _options(plan: Plan) -> str:
    """What else of the request shaped the text that was shown, or what was searched, as JSON."""
    turn = plan.turn
    return _options_json(
        turn.n,
        plan.limits.n * max(len(plan.prompts), 1),
        turn.wishes.citations,
        turn.echo,
        turn.max_tokens == 0,
        turn.search.stores,
        turn.search.mode,
        plan.demos_requested,
        turn.truncation,
        len(turn.calling.functions),
    )


@lru_cache(maxsize=256)  # most requests of a server say the same
def _options_json(*values: Any) -> str:
    return as_json(dict(zip(OPTIONS, values, strict=True)))


def unit_key(secret: bytes, tenant: str, unit: str) -> str:
    """A unit as the journal writes it: nobody is named, and one name of two tenants is two units."""
    keyed = _keyed(secret).copy()  # hmac.digest would let go of the interpreter, which others then hold
    keyed.update(f"unit:{tenant}:{unit}".encode())
    return keyed.hexdigest()


@lru_cache(maxsize=4)
def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")


def _settle(done: "asyncio.Future[None]", problem: Exception | None) -> None:
    def settle() -> None:
        if not done.done():
            done.set_exception(problem) if problem else done.set_result(None)

    try:
        done.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:
        return  # the loop is gone: nobody waits any more
