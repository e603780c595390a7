"""One request's texts, each neutralised and rendered once, put together for any choice of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from prompts.neutralise import Breaker, breaker_of, broken_up, forbidden_for, stays
from prompts.records import KINDS, Block, Demo, Kind, Label, Message, Source, Template, Trust
from prompts.same import Same
from prompts.sandbox import asks_only_for, render, render_each
from prompts.slots import QUESTION

Kept = Mapping[Kind, Sequence[int]]  # for each kind, the items that stay, in their order

BLANK_LINE = "\n\n"


class Cleaner:
    """Neutralises values by their trust and counts the hits."""

    def __init__(self, template: Template, special_tokens: Sequence[str]) -> None:
        self._special = tuple(special_tokens)
        self._fences = template.layout.fence
        self._breakers: dict[Trust, Breaker] = {}
        self.hits = 0

    def clean(self, text: str, trust: Trust) -> str:
        if not text or trust == "author":
            return text
        cleaned = broken_up(text, self._breaker(trust))
        self.hits += cleaned.hits
        return cleaned.text

    def sources(self, sources: Sequence[Source]) -> tuple[Source, ...]:
        """Titles and texts, neutralised; the very same sources where nothing is to be done."""
        texts = [text for source in sources for text in (source.title, source.text)]
        return tuple(sources if stays(texts, self._breaker("document")) else map(self._source, sources))

    def turn(self, message: Message) -> Message:
        """What a tool gave may be anybody's text, so it is trusted no more than a document."""
        text = self.clean(message.text, "document" if message.role == "tool" else "user")
        calls = tuple(replace(call, arguments=self.clean(call.arguments, "user")) for call in message.calls)
        return replace(message, text=text, calls=calls)

    def slot(self, value: object, trust: Trust) -> object:
        if isinstance(value, str):
            return self.clean(value, trust)
        return [self.clean(item, trust) for item in value] if isinstance(value, (list, tuple)) else value

    def _source(self, source: Source) -> Source:
        title, text = (self.clean(one, "document") for one in (source.title, source.text))
        return _saying(source, title, text)

    def _breaker(self, trust: Trust) -> Breaker:
        breaker = self._breakers.get(trust)
        if breaker is None:
            breaker = breaker_of(forbidden_for(trust, self._special, self._fences))
            self._breakers[trust] = breaker
        return breaker


@dataclass(frozen=True, slots=True)
class Draft:
    """Rendered texts of one request. `sources` stay values: removals change the number in their text."""

    template: Template
    values: Mapping[str, object]
    system: str
    question: str
    static_demos: tuple[tuple[str, str], ...]
    dynamic_demos: tuple[tuple[str, str], ...]
    turns: tuple[tuple[Message, ...], ...]  # a user's message and what follows it leave together
    sources: tuple[Source, ...]
    following: tuple[Message, ...] = ()  # what came of the question so far: calls and what they gave
    opening: tuple[Message, ...] | None = None  # `stable` with all static demos, where nobody gave any of it

    def messages(self, kept: Kept) -> tuple[Message, ...]:
        """The whole prompt with the kept items."""
        if self.template.layout.format == "plain":
            return (Message("user", self._joined(self.template.layout.order, kept)),)
        history = [message for at in kept["history"] for message in self.turns[at]]
        as_turns = self._dynamic_turns(kept)
        inside = [
            block
            for block in self.template.layout.order
            if block in ("sources", "question") or (block == "dynamic_demos" and not as_turns)
        ]
        question = Message("user", self._joined(inside, kept))
        return (*self.stable(kept), *history, *as_turns, question, *self.following)

    def stable(self, kept: Kept) -> tuple[Message, ...]:
        """The leading messages, the same for all requests with these variables and static demos."""
        if self.opening is not None and len(kept["static_demos"]) == len(self.static_demos):
            return self.opening
        turns = self.template.layout.demo_style == "turns"
        opening = self._joined(["system"] if turns else ["system", "static_demos"], kept)
        system = (Message("system", opening),) if opening else ()
        return (*system, *_pairs(self.static_demos, kept["static_demos"])) if turns else system

    def items(self, kind: Kind) -> Sequence[object]:
        """What may give way, of one kind."""
        items: Sequence[object] = getattr(self, "turns" if kind == "history" else kind)
        return items

    def text_of(self, kind: Kind, item: int) -> str:
        """What one item puts into the prompt, for measuring."""
        if kind == "history":
            return BLANK_LINE.join(said for message in self.turns[item] for said in _said(message))
        if kind == "sources":
            return self._sources([self.sources[item]], self.sources[item].number)[0]
        return "\n".join(getattr(self, kind)[item])

    def _dynamic_turns(self, kept: Kept) -> tuple[Message, ...]:
        # Beside a real history the model would take the demos for the user's own past; beside turns that
        # show sources, demos without any would teach it not to cite.
        if self.template.layout.demo_style == "text" or self.turns or self.template.takes_sources:
            return ()
        return _pairs(self.dynamic_demos, kept["dynamic_demos"])

    def _joined(self, blocks: Sequence[Block], kept: Kept) -> str:
        return BLANK_LINE.join(text for block in blocks for text in self._block(block, kept) if text)

    def _block(self, block: Block, kept: Kept) -> list[str]:
        match block:
            case "system":
                return [self.system]
            case "question":
                return [self.question]
            case "history":
                return [message.text for at in kept["history"] for message in self.turns[at]]
            case "static_demos" | "dynamic_demos":
                pairs: tuple[tuple[str, str], ...] = getattr(self, block)
                return self._headed("demos_heading", ["\n".join(pairs[at]) for at in kept[block]])
            case "sources":
                texts = self._sources([self.sources[at] for at in kept["sources"]])
                if not texts and self.template.takes_sources:
                    return [self._part("no_sources")]
                return self._headed("sources_heading", texts)
            case _:
                return []  # a soft prompt is put in by whoever owns its embeddings

    def _headed(self, heading: str, texts: list[str]) -> list[str]:
        return [self._part(heading), *texts] if texts else []

    def _part(self, part: str) -> str:
        wording = self.template.parts.get(part)
        return render(part, wording, self.values) if wording is not None else ""

    def _sources(self, sources: Sequence[Source], first: int = 1) -> list[str]:
        """Their texts, numbered from `first` on."""
        if not sources:
            return []
        shown = [
            {"number": number, "title": source.title, "text": source.text}
            for number, source in enumerate(sources, first)
        ]
        return render_each("source", self.template.parts["source"], self.values, shown)


def drafted(
    template: Template,
    values: Mapping[str, object],
    *,
    static_demos: Sequence[Demo],
    dynamic_demos: Sequence[Demo],
    sources: Sequence[Source],
    history: Sequence[Message],
    following: Sequence[Message] = (),
    cleaner: Cleaner,
) -> Draft:
    """Neutralise everything that callers and documents gave, then render what does not depend on removals."""
    slots = {"question": QUESTION, **template.slots}
    clean = {name: cleaner.slot(value, slots[name].trust) for name, value in values.items()}
    labels = _labels(template)
    authored = {name: value for name, value in clean.items() if name != "question"}

    def pair(demo: Demo, trust: Trust) -> tuple[str, str]:
        shown = replace(
            demo, input=cleaner.clean(demo.input, trust), output=cleaner.clean(demo.output, trust)
        )
        return _pair(template, shown, labels.get(demo.label or ""), authored)

    mark = template.layout.datamark if template.layout.marking == "datamark" else ""

    def marked(source: Source) -> Source:
        # arXiv 2403.14720: words so joined do not read as an instruction; the mark cannot be forged
        title, text = (mark.join(one.replace(mark, " ").split()) for one in (source.title, source.text))
        return _saying(source, title, text)

    # demos that belong to the wording may hold its fences on purpose
    own = static_demos is template.demos
    always = _own_demos(Same(template)) if own else None
    if always is None:
        always = tuple(pair(demo, "author" if own else "document") for demo in static_demos)
        own = False
    listed = tuple(labels.values())
    untold = not listed and all(value == "" for value in authored.values())
    safe = cleaner.sources(sources)
    return Draft(
        template=template,
        values=authored,
        system=_unfilled(template.parts.get("system", ""), tuple(authored))
        if untold
        else _system(template, authored, listed),
        question=render("question", template.parts["question"], {**clean, "labels": listed}),
        static_demos=always,
        dynamic_demos=tuple(pair(demo, "document") for demo in dynamic_demos),
        turns=_grouped([cleaner.turn(turn) for turn in history]),
        sources=tuple(map(marked, safe)) if mark else safe,
        following=tuple(cleaner.turn(turn) for turn in following),
        opening=_own_opening(Same(template), tuple(authored)) if own and untold else None,
    )


def _labels(template: Template) -> Mapping[str, Label]:
    return {label.id: label for label in template.labels.labels} if template.labels else {}


@lru_cache(maxsize=256)
def _own_demos(template: Same[Template]) -> tuple[tuple[str, str], ...] | None:
    """A template's own worked examples, where they read the same in every request."""
    one = template.one
    wordings = ("demo_input", "demo_output") if one.demos else ()
    if not all(asks_only_for("demo", one.parts[part]) for part in wordings):
        return None
    labels = _labels(one)
    return tuple(_pair(one, demo, labels.get(demo.label or ""), {}) for demo in one.demos)


@lru_cache(maxsize=256)
def _own_opening(template: Same[Template], names: tuple[str, ...]) -> tuple[Message, ...]:
    """`Draft.stable` of a template that nobody adds to: `names` are slots that nobody filled."""
    one, demos = template.one, _own_demos(template) or ()
    draft = Draft(
        template=one,
        values=dict.fromkeys(names, ""),
        system=_unfilled(one.parts.get("system", ""), names),
        question="",
        static_demos=demos,
        dynamic_demos=(),
        turns=(),
        sources=(),
    )
    kept: dict[Kind, tuple[int, ...]] = dict.fromkeys(KINDS, ())
    return draft.stable(kept | {"static_demos": tuple(range(len(demos)))})


def _system(template: Template, values: Mapping[str, object], labels: tuple[Label, ...]) -> str:
    wording = template.parts.get("system", "")
    return render("system", wording, {**values, "question": "", "labels": labels}).strip()


@lru_cache(maxsize=1024)
def _unfilled(wording: str, names: tuple[str, ...]) -> str:
    """The system text where nobody gave anything."""
    return render("system", wording, {**dict.fromkeys(names, ""), "question": "", "labels": ()}).strip()


def numbered(source: Source, number: int) -> Source:
    return source if source.number == number else replace(source, number=number)


def _saying(source: Source, title: str, text: str) -> Source:
    same = title == source.title and text == source.text
    return source if same else replace(source, title=title, text=text)


def _pair(
    template: Template, demo: Demo, label: Label | None, values: Mapping[str, object]
) -> tuple[str, str]:
    context = {**values, "demo": {"input": demo.input, "output": demo.output, "label": label}}
    said, answered = (render(part, template.parts[part], context) for part in ("demo_input", "demo_output"))
    return said, answered


def _said(message: Message) -> tuple[str, ...]:
    return (message.text, *(call.arguments for call in message.calls))


def _grouped(history: Sequence[Message]) -> tuple[tuple[Message, ...], ...]:
    groups: list[list[Message]] = []
    for message in history:
        if message.role == "user" or not groups:
            groups.append([])
        groups[-1].append(message)
    return tuple(map(tuple, groups))


def _pairs(demos: Sequence[tuple[str, str]], kept: Sequence[int]) -> tuple[Message, ...]:
    return tuple(
        message
        for at in kept
        for message in (Message("user", demos[at][0]), Message("assistant", demos[at][1]))
    )
