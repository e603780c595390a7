"""The product on one page: what is decided while a status can still be chosen, in its order.

turn → arm → exposure → template → search → demos → layout → plan   (then answering.Answer streams it)
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from indexer.records import Hits
from prompts.calibrator import Calibrator, Scored
from prompts.records import Message, Template
from prompts.templates import Library
from server.adapters.leases import BaseOnly
from server.admission import Admission, Ticket
from server.aliases import Aliases
from server.answering import Answer
from server.checks import check_against_model, check_against_template, check_calls
from server.drafts import choose_template, drafted, off_loop, reading_ahead, split, texts_of
from server.engine import Engine
from server.errors import ContextTooLong
from server.experiments import Experiments, as_served
from server.grounding import policy_of, said_instead
from server.journal import Journal
from server.journal_text import flat
from server.laying_out import Found, LayingOut
from server.limits import decide_limits, salt_of
from server.metrics import Metrics
from server.pacing import Pacing
from server.profile import ModelProfile
from server.recipes import Meeting, Recipe
from server.records import Grounding, Plan, Query, Rewrite, Turn
from server.retrieval import as_uses
from server.rewriting import TEMPLATE as REWRITING
from server.rewriting import Rewriter
from server.seams import AdapterNames, Demos, Retriever
from server.token_reading import Rereading, TokenReading
from server.truncation import shortened

NO_HITS = Hits((), {})
log = logging.getLogger("fewshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the app was opened with. Plain values and open things; no settings object comes this far."""

    engine: Engine
    retriever: Retriever
    library: Library
    demos: Demos
    journal: Journal
    admission: Admission
    pacing: Pacing = field(default_factory=Pacing)
    metrics: Metrics = field(default_factory=Metrics)
    experiments: Experiments = field(default_factory=Experiments)
    adapters: AdapterNames = field(default_factory=BaseOnly)
    secret: bytes = b""
    aliases: Aliases = field(default_factory=Aliases)
    rewrite: Rewrite = "off"  # of follow-up questions, for the search
    rewrite_seconds: float = 10.0
    top: int = 4  # chunks put before the model when neither caller nor template says
    output_tokens: int = 1024
    echo_logprobs: bool = True
    public_url: str = ""  # how clients reach this server; starts the links of citations
    calibrators: Mapping[Scored, Calibrator] = field(default_factory=dict)  # of /v1/classify


class Prepared(NamedTuple):
    """A plan, and the exposure that must be on disk before the first byte leaves."""

    plan: Plan
    exposed: asyncio.Future[None]


async def prepare(turn: Turn, ticket: Ticket, parts: Parts) -> Prepared:
    """Everything that may refuse, done while an HTTP status can still be chosen."""
    started = time.perf_counter()
    decoder = parts.engine.decoder
    lease = parts.adapters.hold(turn.base or turn.model, decoder.profile)
    ticket.hold(lease.release)  # whatever becomes of an alias, this request ends on this version
    profile = lease.profile
    check_against_model(turn, profile, echo_logprobs=parts.echo_logprobs)
    check_calls(turn, decoder.tool_parser)
    met = parts.experiments.meet(turn)
    exposed = parts.journal.expose(turn, met)  # now, or an arm that refuses more would look better
    ticket.exposed = turn.id
    parts.metrics.exposed(met)
    plan = await _plan_met(turn, met, profile, ticket, parts)
    waited = ticket.queue_seconds
    return Prepared(replace(plan, queue_seconds=waited, started=started - waited), exposed)


def answer(prepared: Prepared, ticket: Ticket, parts: Parts) -> Answer:
    """The stream that follows a plan; it owns the ticket from now on."""
    return Answer(
        prepared.plan,
        ticket,
        exposed=prepared.exposed,
        engine=parts.engine,
        journal=parts.journal,
        metrics=parts.metrics,
        public_url=parts.public_url,
    )


async def _plan_met(turn: Turn, met: Meeting, profile: ModelProfile, ticket: Ticket, parts: Parts) -> Plan:
    """By the recipe met, else as the request says; the control's recipe where the arm's fails and may."""
    if met.recipe is None:
        template = choose_template(turn, parts.library)
        if template is None:
            return await _plan_as_it_came(turn, profile, parts)
        return await _plan_with_template(turn, template, profile, parts)
    served = met.recipe
    try:
        plan = await _plan_by(served, turn, profile, ticket, parts)
    except Exception as problem:
        if met.fallback is None:
            raise
        log.warning("%s failed and control serves: %s", met.arm, type(problem).__name__)
        served = met.fallback
        plan = await _plan_by(served, turn, profile, ticket, parts)
    return replace(plan, met=replace(met, served=served.reference))


async def _plan_by(recipe: Recipe, turn: Turn, profile: ModelProfile, ticket: Ticket, parts: Parts) -> Plan:
    if recipe.adapter:
        lease = parts.adapters.hold(recipe.adapter, parts.engine.decoder.profile)
        ticket.hold(lease.release)
        profile = lease.profile
    return await _plan_with_template(as_served(turn, recipe), recipe.template, profile, parts)


async def _plan_as_it_came(turn: Turn, profile: ModelProfile, parts: Parts) -> Plan:
    """No template: the caller's text meets the model unchanged."""
    tokenizer = parts.engine.decoder.tokenizer
    size = sum(len(message.text) for message in turn.messages) + sum(map(len, turn.prompts))
    size += turn.calling.chars
    prompts: tuple[tuple[int, ...], ...]
    gone = 0
    if turn.truncation == "auto":
        turn, gone = await off_loop(size, lambda: shortened(turn, profile, tokenizer, parts.output_tokens))
    if turn.messages:
        reading = TokenReading(tokenizer, thinking=turn.thinking, functions=turn.calling.functions)
        prompts = (await off_loop(size, lambda: reading.ids(turn.messages)),)
    else:
        prompts = await off_loop(
            size,
            lambda: tuple(tokenizer.encode(p) if isinstance(p, str) else p for p in turn.prompts),
        )
    longest = max(map(len, prompts))
    context = profile.context_tokens
    wanted = 1 if turn.max_tokens is None else turn.max_tokens
    if longest + wanted > context:
        raise ContextTooLong(
            f"the prompt has {longest} tokens and {wanted} more are asked for; this model's context is "
            f"{context} tokens. Shorten the prompt or lower max_tokens",
            param="messages" if turn.messages else "prompt",
        )
    limits = decide_limits(turn, None, profile, longest, parts.output_tokens, parts.secret)
    plan = drafted(turn, profile, prompts, limits, messages=turn.messages)
    if gone:
        plan = replace(plan, dropped={"turns": gone})
    return replace(plan, echoed=texts_of(turn, tokenizer)) if turn.echo else plan


async def _plan_with_template(turn: Turn, template: Template, profile: ModelProfile, parts: Parts) -> Plan:
    began = time.perf_counter()
    spoken = split(turn)
    instructions, history, question, _ = spoken
    check_against_template(turn, template, instructions)
    query = await _query(turn, question, history, parts)
    plain = template.layout.format == "plain"
    tokenizer = parts.engine.decoder.tokenizer
    reading = Rereading(TokenReading(tokenizer, plain, turn.thinking, turn.calling.functions))
    ahead = reading_ahead(turn, template, spoken, profile, reading)
    lay = LayingOut(turn, template, spoken, profile, reading)
    wanted = _demo_count(turn, template, parts)
    at_once = lay if ahead is None and not wanted else None  # else the layout waits for more than the hits
    found = await _search(turn, query.text, template, parts, at_once)
    hits = found.hits
    if ahead is not None:
        await ahead
    retrieval_seconds = (found.at if found.laid else time.perf_counter()) - began
    picked = await parts.demos.pick(question, wanted, template)
    if not hits.hits and turn.search.stores:
        parts.metrics.retrieval_empty.labels(policy_of(turn, template)).inc()
        refusal = said_instead(turn, template, question, instructions)
        if refusal is not None:
            limits = decide_limits(turn, template, profile, 0, parts.output_tokens, parts.secret)
            return drafted(
                turn,
                profile,
                (),
                limits,
                template=template,
                grounding="refused",
                refusal=refusal,
                query=query,
                generations=hits.generations,
                retrieval_seconds=retrieval_seconds,
            )

    laid = found.laid
    if laid is None:
        size = sum(len(hit.text) for hit in hits.hits) + sum(len(message.text) for message in turn.messages)
        laid = await off_loop(size, lambda: lay(hits, picked))
    prompt, (ids, data) = laid
    if prompt.dropped.turns and turn.truncation == "disabled":
        raise ContextTooLong(
            f"{prompt.dropped.turns} earlier turns do not fit this model's context; send fewer, or set "
            "truncation to auto",
            param="input",
        )
    grounding: Grounding = "not_requested"
    if turn.search.stores:
        grounding = "grounded" if prompt.used else "ungrounded"
    limits = decide_limits(turn, template, profile, len(ids), parts.output_tokens, parts.secret)
    return drafted(
        turn,
        profile,
        (ids,),
        limits,
        template=template,
        messages=prompt.messages,
        grounding=grounding,
        prompt_bytes=data,
        query=query if turn.search.stores else None,
        sources=as_uses(hits, prompt.used),
        demos=tuple(demo.id for demo in prompt.demos),
        demos_requested=wanted,
        pool_sha256=parts.demos.sha256_of(template.dynamic.pool),
        generations=hits.generations,
        dropped=flat(prompt.dropped),
        stable_tokens=prompt.stable_tokens,
        retrieval_seconds=retrieval_seconds,
    )


async def _query(turn: Turn, question: str, history: Sequence[Message], parts: Parts) -> Query:
    wanted = turn.wishes.rewrite_query
    if not turn.search.stores or not history or wanted is False:
        return Query(question)
    way: Rewrite = "model" if wanted and parts.rewrite == "off" else parts.rewrite
    rewriter = Rewriter(
        parts.engine.decoder,
        parts.library.get(REWRITING),
        parts.rewrite_seconds,
        cache_salt=salt_of(parts.secret, turn.tenant),
    )
    return await rewriter.query(way, question, history, turn.id)


async def _search(
    turn: Turn, question: str, template: Template, parts: Parts, lay: LayingOut | None
) -> Found:
    """The hits; with `lay`, the prompt too where there are any."""
    if not turn.search.stores:
        return Found(NO_HITS, time.perf_counter())
    top = turn.search.top or template.retrieval_top or parts.top
    search = replace(turn.search, tenant=turn.tenant)
    began = time.perf_counter()
    searched = False

    def then(hits: Hits) -> Found:
        nonlocal searched
        searched, at = True, time.perf_counter()
        parts.metrics.searched("all", at - began)
        return Found(hits, at, lay(hits) if lay is not None and hits.hits else None)

    try:
        return await parts.retriever.search_then(question, search, top=top, then=then)
    except Exception:
        if not searched:  # what a layout refuses is no error of the search
            parts.metrics.retrieval_errors.inc()
        raise
    finally:
        if not searched:
            parts.metrics.searched("all", time.perf_counter() - began)


def _demo_count(turn: Turn, template: Template, parts: Parts) -> int:
    """As many as the caller asks for; else the template's number, where there is a pool to pick from."""
    if turn.wishes.demos is not None:
        return turn.wishes.demos
    has_pool = parts.demos.sha256_of(template.dynamic.pool) is not None
    return template.dynamic.count if template.takes_demos and has_pool else 0
