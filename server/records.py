"""What travels through the server: plain, frozen, the same for every route.

Turn   what was asked (wire → pipeline)
Plan   what will be done about it (prepare → answer): all that may refuse is behind us
Piece  what the model said, bit by bit (decoder → pipeline → routes)
Reply  the whole answer, once it has ended (pipeline → routes, journal)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from indexer.filters import Filter
from prompts.records import Call, Message, WhenEmpty
from server.calling import NO_CALLS, Calling, CallPart
from server.loadables import AdapterUse, TemplateUse
from server.recipes import NOBODY, Meeting
from server.sources import Citation, SourceUse

FinishReason = Literal["stop", "length", "tool_calls"]
Grounding = Literal["not_requested", "grounded", "ungrounded", "refused"]
SearchMode = Literal["hybrid", "vector", "keyword"]
Markers = Literal["markers", "links", "none"]
Rewrite = Literal["off", "join", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens. None means: not said, the next in line decides (template, model, default)."""

    temperature: float | None = None  # 0 … 2
    top_p: float | None = None  # (0, 1]
    top_k: int | None = None  # -1 = all
    min_p: float | None = None  # 0 … 1
    frequency_penalty: float | None = None  # -2 … 2
    presence_penalty: float | None = None  # -2 … 2
    repetition_penalty: float | None = None  # (0, 2]
    seed: int | None = None  # int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One retrieval, as asked for. None means: the template or the settings decide."""

    stores: tuple[str, ...] = ()  # ids or names; empty = no search
    top: int | None = None  # 1 … 50
    mode: SearchMode = "hybrid"
    filter: Filter | None = None
    threshold: float | None = None  # on the calibrated score
    per_file: int | None = None  # 1 … 50
    weights: tuple[float, float] | None = None  # (dense, keyword): which leg to lean on
    rerank: bool = True  # where the operator set up a reranker
    required: bool = False  # tool_choice "required": search or 400
    off: bool = False  # tool_choice "none": no search, whatever an alias brings
    tenant: str | None = None  # whose stores may be searched; None: all, in here only


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The `fewshot` extension object of a request (openai-surface §10.1), validated."""

    template: str | None = None  # name or name@version
    variables: Mapping[str, str] = field(default_factory=dict)
    demos: int | None = None  # 0 … 32
    unit: str | None = None
    experiment: Literal["auto", "off"] = "auto"
    when_empty: WhenEmpty | None = None
    refusal_text: str | None = None
    citations: Markers | None = None  # None: markers
    unsupported: bool = False  # flag sentences that no source words
    rewrite_query: bool | None = None  # follow-up questions; None: as the server is set up
    inspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One generation request, whatever route it came by. `messages` for chat, `prompts` for completions."""

    id: str  # chatcmpl-…, cmpl-…: the turn key, and the id of the response
    created: int  # seconds since the epoch
    tenant: str
    model: str  # as it was asked by: the base model's name, or an alias
    base: str | None = None  # the model that an alias stands for; None: `model` is no alias
    messages: tuple[Message, ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()  # raw: text or token ids
    n: int = 1
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    logprobs: int | None = None  # None = none; 0 = only the chosen token; k = and the k best
    echo: bool = False
    schema: Mapping[str, Any] | None = None  # response_format: a JSON schema; {} = any JSON object
    thinking: bool | None = None  # chat_template_kwargs.enable_thinking
    search: Search = Search()
    calling: Calling = NO_CALLS
    wishes: Wishes = Wishes()
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    unit: str | None = None
    unit_kind: str = "request"
    conversation: str | None = None  # id of its first response, where the server knows conversations
    metadata: Mapping[str, str] = field(default_factory=dict)
    noted: Mapping[str, str | int] = field(default_factory=dict)  # headers only written down, by column
    deadline_seconds: float | None = None
    ignored: tuple[str, ...] = ()  # unknown field names skipped under server.unknown_fields = "report"
    truncation: Literal["auto", "disabled"] | None = None  # None: the template decides; it drops old turns
    keep_text: bool = True  # false: the journal keeps ids and digests of this turn only

    @property
    def question(self) -> str:
        """The text to search for: the last user message, or the one raw prompt."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        first = self.prompts[0] if self.prompts else ""
        return first if isinstance(first, str) else ""

    @property
    def calls(self) -> bool:
        """Whether functions may be called, or were."""
        return bool(self.calling.functions) or any(message.role == "tool" for message in self.messages)

    @property
    def raw(self) -> bool:
        """No template, no retrieval: the caller's text meets the model as it is."""
        return bool(self.prompts) and not (self.wishes.template or self.search.stores or self.wishes.demos)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the decoder is held to: every value decided, nothing left to a default."""

    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    schema: Mapping[str, Any] | None = None
    schema_of: Literal["response_format", "tools"] = "response_format"  # the field that asked for it
    parsed: bool = False  # a parser reads the answer, so it needs the tokens that callers do not see
    cache_salt: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its log-probability and the best alternatives, best first."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for every token, at three times the cost
class Piece:
    """Some more of one choice, changed by nobody. `finish` is set on the last piece of a choice alone."""

    index: int = 0
    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: FinishReason | None = None
    cached_tokens: int = 0  # of the prompt, known with the first piece
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None  # first piece, when asked for
    citations: tuple[Citation, ...] = ()  # last piece of a choice
    calls: tuple[CallPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """What was searched for in a question's stead."""

    text: str
    rewrite: Rewrite | Literal["failed"] = "off"
    tokens: int = 0  # of the model, prompt and answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything decided while the HTTP status could still be chosen."""

    turn: Turn
    base: str  # served name of the base model
    base_sha256: str
    fingerprint: str = ""  # system_fingerprint: of engine version, weights, adapter, dtype
    engine: Mapping[str, Any] = field(default_factory=dict)  # ModelProfile.describe
    prompts: tuple[tuple[int, ...], ...]  # token ids, one row a prompt
    prompt_sha256: str  # of the bytes
    prompt_bytes: bytes = b""  # token_bytes of the prompts, made once; empty: not made yet
    limits: Limits
    adapter: AdapterUse | None = None
    template: TemplateUse | None = None
    messages: tuple[Message, ...] = ()  # as the model's chat template saw them
    grounding: Grounding = "not_requested"
    refusal: str | None = None  # set: no model call, this text is the answer
    query: Query | None = None  # None: nothing was searched for
    sources: tuple[SourceUse, ...] = ()
    demos_requested: int = 0
    demos: tuple[str, ...] = ()
    pool_sha256: str | None = None
    generations: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)  # sources, demos, turns
    echoed: tuple[str, ...] = ()  # what each prompt reads as, when turn.echo asks for it back
    met: Meeting = NOBODY
    stable_tokens: int = 0
    queue_seconds: float = 0.0
    retrieval_seconds: float = 0.0
    started: float = 0.0  # time.perf_counter() at the start of the request

    @property
    def prompt_tokens(self) -> int:
        return sum(len(ids) + (self.adapter.added_tokens if self.adapter else 0) for ids in self.prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    index: int
    text: str
    tokens: tuple[int, ...]
    finish: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    citations: tuple[Citation, ...] = ()
    unsupported: tuple[tuple[int, int], ...] = ()  # sentences, half-open code points
    calls: tuple[Call, ...] = ()
    calls_before_text: int = 0  # how many of the calls began before the text did


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How a turn ended."""

    plan: Plan
    choices: tuple[Choice, ...]
    usage: Usage
    outcome: Literal["stop", "length", "cancelled", "failed"]
    citations_dropped: int = 0
    first_token_seconds: float | None = None
    total_seconds: float = 0.0
