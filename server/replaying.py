"""Replay: what the journal holds of an answer, and the same token ids decoded again.

A replay is no exposure: nothing of it is journalled, and no experiment counts it. It shares no cached prefix
with anybody, so its prompt is computed anew.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from indexer.presence import Presence, chunk_presence, store_generations
from prompts.errors import UnknownTemplate
from server.admission import Ticket
from server.answering import decode_all, prompt_only
from server.choices import ChoiceSoFar
from server.citing import Citer
from server.corpora import Corpora
from server.errors import DeadlineExceeded, ModelNotFound, NotFound
from server.ids import new_id
from server.pipeline import Parts
from server.profile import ModelProfile
from server.replay import Difference, Reason, Record, Said, engine_reasons, first_difference, read_record
from server.seams import Decoder

LABELLED = "clsf-"  # ids of classifications
TIE = 0.01  # nats: log-probabilities so near are within what rounding moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What of a turn's ingredients is still as it was."""

    template: bool
    demos: bool
    model: bool
    adapter: bool
    chunks: Mapping[str, Presence]
    generations: Mapping[str, int]  # the newest now, of the stores that are still there

    @property
    def sources(self) -> bool:
        return all(chunk.state == "there" for chunk in self.chunks.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A second decoding beside the first; `replayed` is None where there was nothing to decode."""

    record: Record
    replayed: tuple[Said, ...] | None
    reasons: tuple[Reason, ...]
    difference: Difference | None = None
    log_probabilities: tuple[float, float] | None = None  # of the two tokens where they part, as of now

    @property
    def identical(self) -> bool | None:
        """None where there was nothing to compare."""
        if self.replayed is None or self.record.choices is None:
            return None
        return self.difference is None

    @property
    def exact(self) -> bool:
        """Identical, and not by luck: nothing that could have changed the answer has changed."""
        return self.identical is True and not any(reason.can_change for reason in self.reasons)


async def find_record(turn_id: str, tenant: str, parts: Parts) -> Record:
    """What the journal holds. Raises NotFound: no such turn of the tenant, or it was refused unplanned."""
    found = await asyncio.to_thread(_read, turn_id, tenant, parts)
    if found is None:
        raise NotFound("there is no such answer, or it was refused before there was a prompt")
    return found


async def remains_of(record: Record, parts: Parts, corpora: Corpora) -> Remains:
    """What is still there: template, worked examples, sources, model."""
    chunks = await corpora.run(chunk_presence, record.chunks)
    return Remains(
        template=record.template is None or _digest(record.template, parts) == record.template_sha256,
        demos=record.pool_sha256 is None or parts.demos.has(record.pool_sha256),
        model=record.base_sha256 == parts.engine.decoder.profile.sha256,
        adapter=_adapter_is_loaded(record, parts),
        chunks=chunks,
        generations=await corpora.run(store_generations, list(record.generations)),
    )


async def replay(record: Record, remains: Remains, ticket: Ticket, parts: Parts) -> Replay:
    """Decode again, compare, say what differs. `ticket` is the caller's to give back.

    Raises DeadlineExceeded, EngineUnavailable.
    """
    decoder = parts.engine.decoder
    reasons = _missing(record, remains)
    stops = _nothing_to_decode(record, decoder.profile)
    if stops is None and not remains.adapter:
        says = f"the adapter {record.adapter} is not loaded; load it and replay again"
        stops = Reason("adapter", says, True, record.adapter, None)
    if stops is not None or record.prompts is None:
        return Replay(record=record, replayed=None, reasons=(*((stops,) if stops else ()), *reasons))
    lease = parts.adapters.hold(record.adapter or decoder.profile.name, decoder.profile)
    ticket.hold(lease.release)
    reasons = [*engine_reasons(record, decoder.profile), *reasons]
    if record.outcome not in ("stop", "length"):
        says = f"the recorded answer did not end by itself ({record.outcome or 'no reply was written down'})"
        reasons.append(Reason("unfinished", says, True, record.outcome, None))
    try:
        async with asyncio.timeout(max(ticket.seconds_left, 0)), parts.engine.held():
            replayed = await _decode(record, decoder)
            if record.choices is None:
                return Replay(record=record, replayed=replayed, reasons=(*reasons, _no_answer(record)))
            difference = first_difference(record, replayed)
            odds = await _odds(record, difference, decoder)
    except TimeoutError:
        raise DeadlineExceeded("the replay did not end within the request's deadline") from None
    if odds is not None and record.limits.temperature == 0 and abs(odds[0] - odds[1]) < TIE:
        says = "where the answers part, both tokens are as probable up to rounding"
        reasons.append(Reason("tie", says, True, odds[0], odds[1]))
    return Replay(
        record=record,
        replayed=replayed,
        reasons=tuple(reasons),
        difference=difference,
        log_probabilities=odds,
    )


def _read(turn_id: str, tenant: str, parts: Parts) -> Record | None:
    parts.journal.wait()  # what was just answered can be replayed at once
    row = parts.journal.find(turn_id, tenant=tenant)
    return None if row is None else read_record(row, parts.journal.others(row))


def _adapter_is_loaded(record: Record, parts: Parts) -> bool:
    if record.adapter is None:
        return True
    try:
        parts.adapters.hold(record.adapter, parts.engine.decoder.profile).release()
    except ModelNotFound:
        return False
    return True


def _digest(template: str, parts: Parts) -> str | None:
    try:
        return parts.library.get(template).digest
    except UnknownTemplate:
        return None


def _missing(record: Record, remains: Remains) -> list[Reason]:
    """Ingredients that changed or went. A replay starts from the token ids, so it does not need them."""
    reasons = []
    if not remains.template:
        says = f"the template {record.template} is gone or changed; the prompt's token ids stand for it"
        reasons.append(Reason("template", says, False, record.template_sha256, None))
    if not remains.demos:
        says = "the pool of worked examples has changed; the prompt's token ids stand for it"
        reasons.append(Reason("demos", says, False, record.pool_sha256, None))
    for state, what in (("removed", "were deleted or replaced"), ("gone", "have left the disk")):
        lost = [chunk for chunk, presence in remains.chunks.items() if presence.state == state]
        if lost:
            says = f"{len(lost)} of {len(record.chunks)} sources {what} since"
            reasons.append(Reason(f"sources_{state}", says, False, lost, None))
    gone = sorted(set(record.generations) - set(remains.generations))
    if gone:
        reasons.append(Reason("stores_deleted", "stores that were searched are deleted", False, gone, None))
    return reasons


def _nothing_to_decode(record: Record, profile: ModelProfile) -> Reason | None:
    """Why there is nothing to decode, or nothing that this model could."""
    if record.refused:
        return Reason("no_model_call", "nothing was found, and no model was asked for the answer", False)
    if record.id.startswith(LABELLED):
        return Reason("no_generation", "labels were scored for the texts, no token was generated", False)
    if record.prompts is None and record.erased_at is not None:
        says = "the prompt was erased on request, with the sources that it showed"
        return Reason("prompt_erased", says, True, record.erased_at, None)
    if record.prompts is None:
        says = "the prompt was not kept: journal.keep = digests, or store: false"
        return Reason("prompt_not_kept", says, True)
    longest = max(map(len, record.prompts)) + record.limits.max_tokens
    largest = max((token for ids in record.prompts for token in ids), default=0)
    if largest >= profile.vocabulary or longest > profile.context_tokens:
        says = f"the recorded tokens do not fit the model served now, {profile.name}"
        return Reason("does_not_fit", says, True, record.base_sha256, profile.sha256)
    return None


def _no_answer(record: Record) -> Reason:
    if record.erased_at is not None:
        return Reason("answer_erased", "the answer was erased on request", True, record.erased_at, None)
    return Reason("answer_not_kept", "the answer's tokens were not written down", True)


async def _decode(record: Record, decoder: Decoder) -> tuple[Said, ...]:
    """The choices that the prompts have now, with markers read as they were read then."""
    assert record.prompts is not None
    limits = replace(record.limits, prompt_logprobs=None, cache_salt=new_id("replay-"))
    cut = [len(said.tokens) for said in record.choices or ()] if record.outcome == "cancelled" else []
    if cut:
        limits = replace(limits, max_tokens=max(*cut, 1))  # compared as far as the caller listened
    sources = record.sources
    so_far = [
        ChoiceSoFar(Citer(sources) if record.cites else None) for _ in range(limits.n * len(record.prompts))
    ]
    name = new_id("replay-")
    pieces = decode_all(decoder, record.prompts, limits, request_id=name, adapter=record.adapter)
    async with aclosing(pieces):
        async for piece in pieces:
            so_far[piece.index].take(prompt_only(piece) if record.options.get("prompt_only") else piece)
    choices = [one.choice(index) for index, one in enumerate(so_far)]
    return tuple(Said(choice.tokens, choice.text, choice.finish) for choice in choices)


async def _odds(
    record: Record, difference: Difference | None, decoder: Decoder
) -> tuple[float, float] | None:
    """ln p of the recorded and of the replayed token where they part, given all before them."""
    if difference is None or difference.original is None or difference.replayed is None:
        return None
    assert record.prompts is not None
    assert record.choices is not None
    prompt = record.prompts[difference.choice // record.limits.n]
    before = record.choices[difference.choice].tokens[: difference.token_index]
    candidates: Sequence[int] = (difference.original, difference.replayed)
    ids, salt = (*prompt, *before), new_id("replay-")
    then, now = await decoder.first_tokens(ids, candidates, cache_salt=salt, adapter=record.adapter)
    return (then, now) if math.isfinite(then) and math.isfinite(now) else None
