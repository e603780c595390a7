"""What the room passes around. Nothing here fetches, renders or counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["answer", "classify", "extract"]
Trust = Literal["author", "user", "document"]
SlotType = Literal["text", "integer", "number", "boolean", "choice", "list"]
Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["static_demos", "history", "dynamic_demos", "sources"]
Block = Literal["system", "static_demos", "soft_prompt", "history", "dynamic_demos", "sources", "question"]
Format = Literal["chat", "plain"]  # plain: one text for a base model
DemoStyle = Literal["text", "turns"]
Marking = Literal["fence", "datamark", "none"]
Strategy = Literal["none", "fixed", "random", "random_each", "nearest", "bm25", "mmr", "dpp", "balanced"]
Order = Literal["nearest_last", "nearest_first", "shuffled", "interleaved", "as_listed"]
Scoring = Literal["first_token", "sequence", "generate"]
WhenEmpty = Literal["answer", "refuse", "error"]
Calibration = Literal["none", "content_free", "batch"]

KINDS: tuple[Kind, ...] = ("static_demos", "history", "dynamic_demos", "sources")


@dataclass(frozen=True, slots=True)
class Slot:
    """A named hole in the wording that a caller fills."""

    type: SlotType
    trust: Trust
    max_chars: int | None = None  # for lists: of all items together
    choices: tuple[str, ...] = ()
    optional: bool = False  # an optional slot left out reads as empty text


@dataclass(frozen=True, slots=True)
class Label:
    id: str
    text: str  # what the model writes
    about: str = ""


@dataclass(frozen=True, slots=True)
class LabelSet:
    labels: tuple[Label, ...]
    score: Scoring = "first_token"
    calibrate: Calibration = "none"
    refuse_below: float = 0.0  # calibrated probability


@dataclass(frozen=True, slots=True)
class Demo:
    """One worked example."""

    id: str
    input: str
    output: str
    label: str | None = None  # a label's id
    tags: tuple[str, ...] = ()
    unit: str | None = None  # whose it is, by its provenance: not shown to the same unit


@dataclass(frozen=True, slots=True)
class Source:
    """A passage the answer may lean on; `number` is what a marker such as `[1]` names."""

    number: int
    chunk_id: str
    title: str
    text: str
    score: float = 0.0  # larger is better; the lowest gives way first


@dataclass(frozen=True, slots=True)
class Call:
    """A function that the model called; what came of it is a message of the role `tool`."""

    id: str
    name: str
    arguments: str  # JSON


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    text: str
    calls: tuple[Call, ...] = ()  # of the assistant
    answers: str | None = None  # of a tool: the id of the call


@dataclass(frozen=True, slots=True)
class DemoPolicy:
    """How many worked examples, and which."""

    strategy: Strategy = "none"
    count: int = 0
    order: Order = "nearest_last"
    seed: int = 0
    per_label: int | None = None
    max_distance: float | None = None  # 1 - cosine, so 0..2; None: the pool's own gate, if it has one
    ids: tuple[str, ...] = ()  # of `fixed`: these, in this order
    pool: str | None = None  # an exact name@version; None: the server's default pool


@dataclass(frozen=True, slots=True)
class Layout:
    format: Format = "chat"
    order: tuple[Block, ...] = (
        "system",
        "static_demos",
        "soft_prompt",
        "history",
        "dynamic_demos",
        "sources",
        "question",
    )
    demo_style: DemoStyle = "text"
    marking: Marking = "fence"
    fence: tuple[str, ...] = ()
    datamark: str = ""  # of the marking of that name: stands for every run of whitespace in a source


@dataclass(frozen=True, slots=True)
class Budget:
    """What each kind may take, must keep, and in which order kinds give way."""

    reserve: int = 256  # completion tokens always left free
    most: Mapping[Kind, int] = field(default_factory=dict)  # tokens
    least: Mapping[Kind, int] = field(default_factory=dict)  # items; for history, pairs
    gives_way: tuple[Kind, ...] = ("history", "dynamic_demos", "sources", "static_demos")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding defaults; None leaves the choice to whoever comes next."""

    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A rendering that lint tries; its text is kept as a golden file."""

    question: str
    variables: Mapping[str, object] = field(default_factory=dict)
    instructions: str | None = None
    demos: tuple[Demo, ...] = ()
    sources: tuple[Source, ...] = ()
    history: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """One version of the wording. A version that was used is never edited."""

    name: str
    version: int
    digest: str  # sha256 of the file's meaning: comments may change, wording may not
    task: Task
    about: str
    parts: Mapping[str, str]
    slots: Mapping[str, Slot] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    static: DemoPolicy = field(default_factory=DemoPolicy)
    dynamic: DemoPolicy = field(default_factory=DemoPolicy)
    demos: tuple[Demo, ...] = ()  # worked examples that belong to the wording; shown unless others are passed
    labels: LabelSet | None = None
    budget: Budget = field(default_factory=Budget)
    retrieval_top: int | None = None
    when_empty: WhenEmpty | None = None  # what a search that finds nothing leads to; None: the server decides
    sampling: Sampling = field(default_factory=Sampling)
    examples: tuple[Example, ...] = ()

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def takes_demos(self) -> bool:
        return "demo_input" in self.parts

    @property
    def takes_sources(self) -> bool:
        return "source" in self.parts

    @property
    def takes_instructions(self) -> bool:
        return "instructions" in self.slots


@dataclass(frozen=True, slots=True)
class Dropped:
    """Items that gave way. A long template that evicts sources is an effect of the arm, so it is logged."""

    sources: int = 0
    demos: int = 0
    turns: int = 0  # messages, not pairs


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, and an exact account of what is in it."""

    messages: tuple[Message, ...]
    tokens: int  # exact, generation prompt included
    stable_tokens: int  # leading tokens that are the same for every request of this template
    used: tuple[Source, ...] = ()  # used[i].number == i + 1
    demos: tuple[Demo, ...] = ()
    dropped: Dropped = field(default_factory=Dropped)
    format: Format = "chat"  # plain: one message, to be read as it is, without the model's chat template
    neutralised: int = 0  # hostile strings broken up or removed in what callers and documents gave
