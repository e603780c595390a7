"""Template, demos, sources and turns become one prompt that fits; stable parts first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from prompts.budget import capped, fewest, leaving, removals, without
from prompts.drafting import Cleaner, Draft, drafted, numbered
from prompts.errors import PromptTooLong, SlotProblem
from prompts.records import KINDS, Demo, Dropped, Kind, Message, Prompt, Source, Template
from prompts.same import Same
from prompts.sandbox import render
from prompts.seams import Count
from prompts.slots import check

NOTHING: Mapping[str, object] = MappingProxyType({})


def lay_out(
    template: Template,
    *,
    question: str,
    demos: Sequence[Demo] = (),
    demo_scores: Sequence[float] = (),
    static_demos: Sequence[Demo] | None = None,
    sources: Sequence[Source] = (),
    history: Sequence[Message] = (),
    following: Sequence[Message] = (),
    variables: Mapping[str, object] = NOTHING,
    instructions: str | None = None,
    room: int,
    count: Count,
    special_tokens: Sequence[str] = (),
) -> Prompt:
    """The prompt for one question, in at most `room` tokens.

    `demos` were picked for this question, and stand in the order in which they are to be read;
    `demo_scores` (larger is better) say which gives way first, and without them the first listed does.
    `static_demos` are the same for every request; None takes the template's own. `sources` keep their order
    and are numbered 1..n after removals. `history` holds the user's and the assistant's earlier messages,
    `following` what came after the question: calls of tools and what these gave, which never gives way.
    `count` is called once when everything fits, about three times more when it does not.

    Raises SlotProblem when values do not fit the template, RenderFailed when a part cannot show them, and
    PromptTooLong when what may not give way exceeds the room. Nothing is cut in mid-text.
    """
    fixed = template.demos if static_demos is None else static_demos
    given = _given(template, question, variables, instructions, [*fixed, *demos], sources)
    cleaner = Cleaner(template, special_tokens)
    draft = drafted(
        template,
        check(template, given),
        static_demos=fixed,
        dynamic_demos=demos,
        sources=sources,
        history=history,
        following=following,
        cleaner=cleaner,
    )
    kept, tokens, messages = _fitted(draft, demos, demo_scores or range(len(demos)), room, count)
    stable = draft.stable(kept)
    used = [numbered(sources[at], number) for number, at in enumerate(kept["sources"], 1)]
    shown = [*(fixed[at] for at in kept["static_demos"]), *(demos[at] for at in kept["dynamic_demos"])]
    return Prompt(
        messages=messages,
        tokens=tokens,
        stable_tokens=_stable_tokens(stable, draft, count),
        used=tuple(used),
        demos=tuple(shown),
        dropped=Dropped(
            sources=len(sources) - len(used),
            demos=len(fixed) + len(demos) - len(shown),
            turns=len(history) - sum(len(draft.turns[at]) for at in kept["history"]),
        ),
        format=template.layout.format,
        neutralised=cleaner.hits,
    )


def opening(
    template: Template,
    *,
    question: str,
    history: Sequence[Message] = (),
    variables: Mapping[str, object] = NOTHING,
    instructions: str | None = None,
    special_tokens: Sequence[str] = (),
) -> tuple[Message, ...]:
    """The messages before the question's, as `lay_out` makes them where nothing gives way; none if plain.

    What they say depends on no source and on no demo that is picked for the question. Raises SlotProblem
    and RenderFailed like `lay_out`.
    """
    if template.layout.format == "plain":
        return ()
    draft = drafted(
        template,
        check(template, _given(template, question, variables, instructions, template.demos, ())),
        static_demos=template.demos,
        dynamic_demos=(),
        sources=(),
        history=history,
        cleaner=Cleaner(template, special_tokens),
    )
    kept: dict[Kind, tuple[int, ...]] = dict.fromkeys(KINDS, ())
    kept["static_demos"] = tuple(range(len(draft.static_demos)))
    return (*draft.stable(kept), *(message for turns in draft.turns for message in turns))


def refusal_text(
    template: Template,
    *,
    question: str,
    variables: Mapping[str, object] = NOTHING,
    instructions: str | None = None,
) -> str | None:
    """The template's own words for "nothing found", its slots filled; None when it has none.

    Raises SlotProblem and RenderFailed like `lay_out`.
    """
    if "refusal" not in template.parts:
        return None
    values = check(template, _given(template, question, variables, instructions, (), ()))
    return render("refusal", template.parts["refusal"], values)


def _given(
    template: Template,
    question: str,
    variables: Mapping[str, object],
    instructions: str | None,
    demos: Sequence[Demo],
    sources: Sequence[Source],
) -> dict[str, object]:
    """The values of all slots; what the template has no place for is refused, never left out silently."""
    homeless = [
        name
        for name, given, taken in (
            ("instructions", instructions is not None, template.takes_instructions),
            ("demos", bool(demos), template.takes_demos),
            ("sources", bool(sources), template.takes_sources),
        )
        if given and not taken
    ]
    if homeless:
        raise SlotProblem(template.reference, unknown=homeless, declared=sorted(template.slots))
    spoken = {} if instructions is None else {"instructions": instructions}
    return {**variables, **spoken, "question": question}


def _fitted(
    draft: Draft, demos: Sequence[Demo], scores: Sequence[float], room: int, count: Count
) -> tuple[dict[Kind, tuple[int, ...]], int, tuple[Message, ...]]:
    """What stays, its exact tokens, and the messages that were counted."""
    budget = draft.template.budget
    made: dict[int, tuple[Message, ...]] = {}  # by removals
    tokens: dict[int, int] = {}
    if not budget.most:  # nearly always all of it fits, whatever would have given way first
        everything = {kind: tuple(range(len(draft.items(kind)))) for kind in KINDS}
        made[0] = draft.messages(everything)
        tokens[0] = count(made[0])
        if tokens[0] <= room:
            return everything, tokens[0], made[0]
    orders = leaving(
        static_demos=len(draft.static_demos),
        turns=len(draft.turns),
        demo_scores=scores,
        demo_labels=[demo.label for demo in demos],
        source_scores=[source.score for source in draft.sources],
    )
    gone = capped(orders, lambda kind: _sizes(draft, kind, budget.most[kind], count), budget)
    left = {kind: without(gone, kind, order) for kind, order in orders.items()}
    steps = removals(left, budget)

    def kept(removed: int) -> dict[Kind, tuple[int, ...]]:
        return {kind: tuple(sorted(without(steps[:removed], kind, order))) for kind, order in left.items()}

    def counted(removed: int) -> int:
        if removed not in made:
            made[removed] = draft.messages(kept(removed))
            tokens[removed] = count(made[removed])
        return tokens[removed]

    def guess(whole: int) -> int:
        chars = sum(len(message.text) for message in made[0])
        surplus = (whole - room) * chars / max(whole, 1)
        for removed, step in enumerate(steps, 1):
            surplus -= len(draft.text_of(*step))
            if surplus <= 0:
                return removed
        return len(steps)

    fit = fewest(len(steps), counted, room, guess)
    if fit.tokens > room:
        raise PromptTooLong(needed=fit.tokens, room=room, largest=_largest(draft, kept(fit.steps)))
    return kept(fit.steps), fit.tokens, made[fit.steps]


def _sizes(draft: Draft, kind: Kind, most: int, count: Count) -> list[int]:
    """Tokens of each item; counted only when the kind could exceed its `most`."""
    items = range(len(draft.items(kind)))
    texts = [draft.text_of(kind, item) for item in items]
    size_bytes = [len(text.encode()) + 2 for text in texts]  # no tokenizer makes more tokens than bytes
    if sum(size_bytes) <= most:
        return size_bytes
    nothing = _counted((Message("user", ""),), count)
    return [max(0, _counted((Message("user", text),), count) - nothing) for text in texts]


def _stable_tokens(stable: tuple[Message, ...], draft: Draft, count: Count) -> int:
    if not stable:
        return 0
    return _counted_once(Same(stable), count) if stable is draft.opening else _counted(stable, count)


@lru_cache(maxsize=4096)
def _counted(messages: tuple[Message, ...], count: Count) -> int:
    return count(messages)


@lru_cache(maxsize=256)
def _counted_once(messages: Same[tuple[Message, ...]], count: Count) -> int:
    """Of a template's own opening, which is the same object in every request."""
    return count(messages.one)


def _largest(draft: Draft, kept: Mapping[Kind, Sequence[int]]) -> str:
    sizes = {"system text": len(draft.system), "question": len(draft.question)}
    sizes["tool calls"] = sum(len(message.text) for message in draft.following)
    for kind in KINDS:
        sizes[kind.replace("_", " ")] = sum(len(draft.text_of(kind, item)) for item in kept[kind])
    return max(sizes, key=lambda name: sizes[name])
