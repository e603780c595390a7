"""Texts → labels with calibrated probabilities: the other product of a template, beside free text.

turn → exposure → template → demos → layout → label scores → calibration → reply; no token is generated.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from prompts.budget import prompt_room
from prompts.calibration import BATCH_LEAST, CONTENT_FREE
from prompts.calibrator import Calibrator, Scored, fit
from prompts.demos import Picked
from prompts.layout import lay_out, refusal_text
from prompts.records import Calibration, LabelSet, Template
from server.admission import Ticket
from server.checks import check_against_model
from server.drafts import drafted
from server.errors import DeadlineExceeded, InvalidValue
from server.label_scoring import LabelTokens, Way, label_tokens, score_labels
from server.limits import salt_of
from server.pipeline import Parts
from server.profile import ModelProfile
from server.records import Choice, Limits, Plan, Reply, Turn, Usage
from server.token_reading import TokenReading

AT_ONCE = 16  # prompts of one request inside the engine
MOST_SETS = 8  # of worked examples, that content-free inputs are put behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """One request: `turn.prompts` are the texts, `turn.wishes` name template, variables and demos."""

    turn: Turn
    scoring: Way | None = None  # None: the template decides
    calibrate: Calibration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What became of one text."""

    label: str | None  # id; None: no label is likely enough (`refuse_below` of the template)
    says: str  # the label's text, or the template's refusal
    probabilities: tuple[float, ...]  # calibrated, in the order of the template's labels
    logprobs: tuple[float, ...]  # raw: of the first token, or of the whole label
    demos: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The answer to a Classification."""

    plan: Plan
    labels: tuple[str, ...]  # ids
    scoring: Way
    results: tuple[Labelled, ...]  # one a text, in order
    calibrator: Calibrator
    kept: bool  # whether the calibrator is one of the operator's; else it was made of this request
    usage: Usage
    total_seconds: float


async def classify(asked: Classification, ticket: Ticket, parts: Parts) -> Labels:
    """Label every text of the request.

    Raises UnknownTemplate, InvalidValue, PromptTooLong, ControlText, EngineUnavailable, DeadlineExceeded.
    """
    started = time.perf_counter()
    turn = asked.turn
    lease = parts.adapters.hold(turn.base or turn.model, parts.engine.decoder.profile)
    ticket.hold(lease.release)
    profile = lease.profile
    check_against_model(turn, profile, echo_logprobs=False)
    exposed = parts.journal.expose(turn)
    ticket.exposed = turn.id
    template = parts.library.get(turn.wishes.template or "")
    work = _Work(asked, template, parts, profile)
    plan = await work.plan(started, ticket)
    result: Labels | None = None

    def ended(outcome: Literal["cancelled", "failed"] | None) -> Reply:
        results = result.results if result else ()
        choices = [
            Choice(index=at, text=one.says, tokens=(), finish="stop") for at, one in enumerate(results)
        ]
        seconds = time.perf_counter() - plan.started
        return Reply(
            plan=plan,
            choices=tuple(choices),
            usage=work.usage(plan),
            outcome=outcome or "stop",
            total_seconds=seconds,
        )

    try:
        async with parts.journal.recording(plan, ended):
            async with asyncio.timeout(max(ticket.seconds_left, 0)), parts.engine.held():
                scores = await work.scores(plan.prompts)
                calibrator, kept = await work.calibrator(scores)
            result = Labels(
                plan=plan,
                labels=work.of.labels,
                scoring=work.tokens.way,
                results=work.results(scores, calibrator),
                calibrator=calibrator,
                kept=kept,
                usage=work.usage(plan),
                total_seconds=time.perf_counter() - plan.started,
            )
    except TimeoutError:
        raise DeadlineExceeded(
            "not every text was scored within the request's deadline; send fewer at once"
        ) from None
    await exposed
    parts.engine.proved()
    parts.metrics.replied(ended(None))
    return result


class _Work:
    """One request on its way."""

    def __init__(
        self, asked: Classification, template: Template, parts: Parts, profile: ModelProfile
    ) -> None:
        self._asked, self._template, self._parts = asked, template, parts
        self._labels = _labels_of(template)
        self._decoder, self._profile = parts.engine.decoder, profile
        if asked.turn.wishes.demos and not template.takes_demos:
            raise InvalidValue(f"template {template.reference} has no place for demos", param="demos")
        self.tokens: LabelTokens = label_tokens(template, self._decoder.tokenizer, asked.scoring)
        self._reading = TokenReading(self._decoder.tokenizer, template.layout.format == "plain")
        self._picked: list[Picked] = []
        self.spent = 0  # tokens of prompts that only calibrate
        self._next_tokens = partial(
            self._decoder.first_tokens,
            cache_salt=salt_of(parts.secret, asked.turn.tenant),
            adapter=profile.adapter.reference if profile.adapter else None,
        )
        self._places = asyncio.Semaphore(AT_ONCE)
        wanted = asked.turn.wishes.demos
        if wanted is None:
            wanted = (
                template.dynamic.count
                if template.takes_demos and parts.demos.sha256_of(template.dynamic.pool)
                else 0
            )
        self._demos = wanted
        self.of = Scored(
            template=template.reference,
            template_sha256=template.digest,
            labels=tuple(label.id for label in self._labels.labels),
            scoring=self.tokens.way,
            demos=wanted,
            pool_sha256=parts.demos.sha256_of(template.dynamic.pool) if wanted else None,
            model_sha256=profile.adapter.sha256 if profile.adapter else profile.sha256,
        )

    async def plan(self, started: float, ticket: Ticket) -> Plan:
        """Demos and prompts of all texts."""
        turn, profile, template = self._asked.turn, self._profile, self._template
        texts = [str(text) for text in turn.prompts]
        self._picked = [await self._parts.demos.pick(text, self._demos, template) for text in texts]
        prompts = tuple(
            [await self._laid_out(text, picked) for text, picked in zip(texts, self._picked, strict=True)]
        )
        shown = dict.fromkeys(demo.id for picked in self._picked for demo in picked.demos)
        plan = drafted(turn, profile, prompts, Limits(max_tokens=1, temperature=0.0), template=template)
        return replace(
            plan,
            demos_requested=self._demos,
            demos=tuple(shown),
            pool_sha256=self.of.pool_sha256,
            queue_seconds=ticket.queue_seconds,
            started=started - ticket.queue_seconds,
        )

    def usage(self, plan: Plan) -> Usage:
        return Usage(prompt_tokens=plan.prompt_tokens + self.spent, completion_tokens=0)

    async def scores(self, prompts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Raw logprobs, a row a prompt."""

        async def one(prompt: tuple[int, ...]) -> list[float]:
            async with self._places:
                return await score_labels(prompt, self.tokens, self._next_tokens)

        return await asyncio.gather(*map(one, prompts))

    async def calibrator(self, scores: Sequence[Sequence[float]]) -> tuple[Calibrator, bool]:
        """The operator's, where one was fitted for this very setting; else one made of the request itself.

        `batch` then needs BATCH_LEAST texts: with fewer the template's wish falls back to content-free
        inputs, and a caller who insists is told so (InvalidValue).
        """
        wish = self._asked.calibrate
        known = self._parts.calibrators.get(self.of)
        if known is not None and wish in (None, known.method):
            return known, True
        method = wish or self._labels.calibrate
        if method == "batch" and len(scores) < BATCH_LEAST:
            if wish is not None:
                raise InvalidValue(
                    f"batch calibration needs {BATCH_LEAST} texts in one request, or a calibrator that the "
                    "operator fitted (`fewshot evaluate labels --write`); ask for content_free",
                    param="calibrate",
                )
            method = "content_free"
        free: Sequence[Sequence[float]] = ()
        if method == "content_free":
            sets = list({tuple(demo.id for demo in one.demos): one for one in self._picked}.values())
            prompts = [await self._laid_out(text, one) for one in sets[:MOST_SETS] for text in CONTENT_FREE]
            self.spent += sum(map(len, prompts))
            free = await self.scores(prompts)
        return fit(self.of, scores, method=method, content_free=np.array(free)), False

    def results(self, scores: Sequence[Sequence[float]], calibrator: Calibrator) -> tuple[Labelled, ...]:
        shares = calibrator.probabilities(scores)
        return tuple(
            self._result(str(text), row, raw, picked)
            for text, row, raw, picked in zip(
                self._asked.turn.prompts, shares.tolist(), scores, self._picked, strict=True
            )
        )

    def _result(self, text: str, shares: Sequence[float], raw: Sequence[float], picked: Picked) -> Labelled:
        best = self._labels.labels[shares.index(max(shares))]
        refused = max(shares) < self._labels.refuse_below
        said = None
        if refused:
            said = refusal_text(self._template, question=text, variables=self._asked.turn.wishes.variables)
        return Labelled(
            label=None if refused else best.id,
            says=(said or "") if refused else best.text,
            probabilities=tuple(shares),
            logprobs=tuple(raw),
            demos=tuple(demo.id for demo in picked.demos),
        )

    async def _laid_out(self, text: str, picked: Picked) -> tuple[int, ...]:
        profile, template = self._profile, self._template

        def ids() -> tuple[int, ...]:
            prompt = lay_out(
                template,
                question=text,
                demos=picked.demos,
                demo_scores=picked.scores,
                variables=self._asked.turn.wishes.variables,
                room=prompt_room(profile.context_tokens, None, template.budget.reserve),
                count=self._reading,
                special_tokens=profile.special_tokens,
            )
            return self._reading.checked_ids(prompt.messages)

        return await asyncio.to_thread(ids)


def _labels_of(template: Template) -> LabelSet:
    if template.labels is None or not template.labels.labels:
        raise InvalidValue(
            f"template {template.reference} declares no labels; `fewshot prompts list` shows which classify",
            param="template",
        )
    return template.labels
