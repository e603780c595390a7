"""Adapters as the server serves them: names, and the way of a version from the book into the engine and out.

publish   check the files → engine → one token through it → the book → the name
drain     new requests are refused, those inside end on the version they began with, then the engine lets go

The book is the desired state. Each replica follows it, so a step taken on one is taken on all.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from server.adapters.book import Book, Entry, Moved
from server.adapters.fleet import Ended, Fleet, Observe
from server.adapters.intake import WHOLE, Intake
from server.adapters.leases import Live, nothing
from server.adapters.names import checked_alias
from server.adapters.nearest import nearest
from server.adapters.records import Artefact
from server.errors import InvalidValue, ModelNotFound, NotFound, ServerError, Starting, Unavailable
from server.profile import ModelProfile
from server.seams import Decoder, Lease

log = logging.getLogger("fewshot.adapters")
AGAIN_SECONDS = 30.0  # what was refused for want of room is not read and tried at every poll
POLL_SECONDS = 1.0  # a replica is at most this, and the loading, behind the book


class Listed(NamedTuple):
    entry: Entry
    live: Live | None
    aliases: tuple[str, ...]


class Registry:
    """Names and loads adapters. One event loop; what blocks goes to threads.

    `decoder` raises while the engine is not up; `up` is set when it is, or has failed. `taken` are names that
    mean something else. `intake` may read the
    base model's files when first called, so it is called in a thread.
    """

    def __init__(
        self,
        book: Book,
        intake: Callable[[], Intake],
        *,
        decoder: Callable[[], Decoder],
        up: asyncio.Event,
        observe: Observe = lambda part, seconds: None,
        ended: Ended = lambda outcome: None,
        poll_seconds: float = POLL_SECONDS,
        taken: Iterable[str] = (),
    ) -> None:
        self.book = book
        self.intake = intake
        self._decoder = decoder
        self._up = up
        self._poll_seconds = poll_seconds
        self._taken = frozenset(taken)
        self._fleet = Fleet(intake, decoder, observe, ended)
        self._aliases: dict[str, str] = {}
        self._moved: dict[str, int] = {}  # alias → revision of the book that its meaning here is of
        self._known: frozenset[str] = frozenset()  # every version in the book
        self._tried: dict[str, float] = {}  # wanted but refused → when to try again
        self._revision = -1
        self._behind = False
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the book, from when the engine is up."""
        self._following = asyncio.create_task(self._follow(), name="adapters")

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._fleet.close()

    def forget(self) -> None:
        """The engine was lost: load what is wanted into the next one."""
        self._fleet.forget()
        self._revision = -1

    @property
    def behind(self) -> bool:
        """Whether an alias means a version that does not answer here yet."""
        return self._behind or self._revision < 0

    @property
    def loaded(self) -> int:
        """How many adapters answer requests."""
        return sum(live.state == "loaded" for live in self._fleet.live.values())

    def names(self) -> dict[str, Live]:
        """Every name that is served beside the base: references, then aliases."""
        loaded = {name: live for name, live in sorted(self._fleet.live.items()) if live.state == "loaded"}
        return loaded | {alias: loaded[to] for alias, to in sorted(self._aliases.items()) if to in loaded}

    def hold(self, model: str, profile: ModelProfile) -> Lease:
        """What `model` means now; it stays loaded until the lease is released.

        Raises ModelNotFound, and Starting while it is being loaded, or loaded again after an engine was lost.
        """
        if model == profile.name:
            return Lease(profile, nothing)
        reference = self._aliases.get(model) or model.removeprefix(f"{profile.name}:")
        live = self._fleet.loaded(reference)
        if live is not None:
            return live.hold(profile)
        coming = reference in self._fleet.live and self._fleet.live[reference].state == "loading"
        if coming or (reference in self._known and self._revision < 0):
            raise Starting(f"{reference} is being loaded; ask again", retry_after_seconds=5)
        if reference in self._known:
            raise ModelNotFound(
                f"the adapter {reference} is not loaded; load it with POST /v1/adapters/{reference}/load",
                param="model",
            )
        there = [profile.name, *self._aliases, *(f"{profile.name}:{name}" for name in self._fleet.live)]
        raise ModelNotFound(
            f"the model {model[:200]!r} does not exist; this server has {', '.join(nearest(model, there))}; "
            "/v1/models lists every name",
            param="model",
        )

    async def listed(self) -> list[Listed]:
        """Every version, oldest first."""
        state = await asyncio.to_thread(self.book.state)
        return [
            Listed(
                entry,
                self._fleet.live.get(reference),
                tuple(sorted(alias for alias, to in state.aliases.items() if to == reference)),
            )
            for reference, entry in state.entries.items()
        ]

    async def add(self, artefact: Artefact, *, by: str) -> None:
        """Into the book; nothing is loaded."""
        await asyncio.to_thread(self.book.add, artefact, by=by)
        self._known |= {artefact.reference}

    async def load(self, reference: str, *, by: str) -> Live:
        """In the engine, tried with one token, and wanted on every replica.

        Raises NotFound, UnsupportedAdapterKind, InvalidValue, AdapterInUse when the engine is full,
        EngineUnavailable. After any of them everything is as it was.
        """
        async with self._fleet.lock(reference):
            live = await self._bring(reference, by=by)
            await asyncio.to_thread(self.book.want, reference, True, by=by)
            return live

    async def unload(self, reference: str, *, by: str, drain_seconds: float = 30.0) -> Live | None:
        """No new requests; those inside may end, and the engine lets go with the last of them.

        After `drain_seconds` this returns all the same; the version that goes on draining, else None.
        Raises NotFound, AdapterInUse while an alias means it.
        """
        async with self._fleet.lock(reference):
            await asyncio.to_thread(self.book.want, reference, False, by=by)
            task = self._fleet.let_go(reference)
        if task is not None:
            await asyncio.wait({task}, timeout=drain_seconds)
        return self._fleet.live.get(reference)

    async def promote(self, alias: str, reference: str, *, by: str, reason: str | None = None) -> Moved:
        """Let the alias mean this version, loaded first. Raises as `load`, and InvalidValue for the alias."""
        checked_alias(alias, self._decoder().profile.name)
        if alias in self._taken:
            raise InvalidValue(
                f"{alias!r} is bound in fewshot.toml; let its `model` name an alias promoted here",
                param="alias",
            )
        async with self._fleet.lock(reference):
            await self._bring(reference, by=by)
            moved = await asyncio.to_thread(self.book.bind, alias, reference, by=by, reason=reason)
            return self._take(moved)

    async def rollback(self, alias: str, *, by: str, reason: str | None = None) -> Moved:
        """Back to what the alias meant before. Raises NotFound when nothing was; and as `load`."""
        reference = await asyncio.to_thread(self.book.predecessor, alias)
        async with self._fleet.lock(reference):
            await self._bring(reference, by=by)
            bind = self.book.bind
            moved = await asyncio.to_thread(bind, alias, reference, by=by, reason=reason, action="rollback")
            return self._take(moved)

    async def unbind(self, alias: str, *, by: str) -> None:
        """The alias means nothing any more. Raises NotFound."""
        revision = await asyncio.to_thread(self.book.unbind, alias, by=by)
        self._moved[alias] = revision
        self._aliases.pop(alias, None)

    def _take(self, moved: Moved) -> Moved:
        """One assignment: a request sees the old version or the new. An older step never undoes a newer."""
        if self._moved.get(moved.alias, -1) < moved.revision:
            self._moved[moved.alias] = moved.revision
            self._aliases[moved.alias] = moved.after
        return moved

    async def _bring(self, reference: str, *, by: str) -> Live:
        entry = await asyncio.to_thread(self.book.find, reference)
        self._known |= {reference}
        try:
            return await self._fleet.bring(entry)
        except InvalidValue as problem:
            await asyncio.to_thread(self.book.reject, reference, problem.message, by=by)
            raise

    async def _follow(self) -> None:
        await self._up.wait()
        await self._read_base()
        while True:
            try:
                if await self._fleet.drop_lost():
                    self._revision = -1
                await self.catch_up()
            except Unavailable as problem:
                log.warning("adapters: waiting for the engine: %s", problem.message)
            except Exception:
                log.exception("adapters: the book could not be followed; trying again")
            await asyncio.sleep(self._poll_seconds)

    async def _read_base(self) -> None:
        """Now, where adapters are to be expected: its weights take seconds, which no load should wait for."""
        try:
            if self._decoder().adapters is not None:
                await asyncio.to_thread(self.intake)
        except ServerError as problem:
            log.warning("adapters: %s", problem.message)

    async def catch_up(self) -> None:
        """Load what is wanted, drop what is not, and let names mean what they should."""
        if self._revision == await asyncio.to_thread(self.book.revision) and not self._behind:
            return
        state = await asyncio.to_thread(self.book.state)
        self._known = frozenset(state.entries)
        self._behind = any(self._fleet.loaded(to) is None for to in state.aliases.values())
        slow = {name for name, entry in state.entries.items() if entry.artefact.kind in WHOLE}
        for reference in sorted({*state.entries, *self._fleet.live}, key=lambda name: (name in slow, name)):
            await self._align(reference)
        for alias in set(self._aliases) - set(state.aliases):
            if self._moved.get(alias, -1) <= state.revision:
                del self._aliases[alias]
        for alias, to in state.aliases.items():
            if self._fleet.loaded(to) is not None and self._moved.get(alias, -1) < state.revision:
                self._aliases[alias] = to
        self._behind = any(self._fleet.loaded(to) is None for to in state.aliases.values())
        self._revision = state.revision

    async def _align(self, reference: str) -> None:
        """One version as the book wants it now. What was refused before is not tried again."""
        async with self._fleet.lock(reference):
            try:
                entry = await asyncio.to_thread(self.book.find, reference)
                if entry.wanted and not entry.error and self._tried.get(reference, 0.0) < time.monotonic():
                    await self._bring(reference, by="server")
                elif not entry.wanted:
                    self._fleet.let_go(reference)
            except NotFound:
                self._fleet.let_go(reference)  # deleted
            except Unavailable:
                raise
            except ServerError as problem:
                self._tried[reference] = time.monotonic() + AGAIN_SECONDS
                log.error("adapters: %s is wanted but not loaded: %s", reference, problem.message)
