"""What the routes that generate text share: the fields with their ranges, the unit, the sampling."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from server.errors import InsufficientScope
from server.records import Sampling, Turn
from server.wire.extension import UNEXTENDED, UNWISHED, FewshotRequest
from server.wire.reading import EMPTY_LIST, EMPTY_OBJECT, Context, Wire, fault

INT64 = 2**63
HARMLESS = (  # items of an answer that this server never produces, so asking for them changes nothing
    r"^(web_search_call\..+|reasoning\.encrypted_content|message\.input_image\..+"
    r"|computer_call_output\..+|code_interpreter_call\..+)$"
)

Stop = Annotated[str, Field(min_length=1, max_length=64)]
Owner = Annotated[str, Field(max_length=128)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
# The tags of a union, in angle brackets, never show in a `param`.
Stops = Annotated[
    Annotated[Stop, Tag("<text>")] | Annotated[list[Stop], Field(max_length=4), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


def _token_ids(bias: dict[str, float]) -> dict[str, float]:
    for key in bias:
        if not (key.isascii() and key.isdigit() and len(key) <= 9):
            raise fault("Keys are token ids of this model, written in decimal")
    return bias


def _all_or_some(top_k: int) -> int:
    if top_k == 0:
        raise fault("-1 means all tokens, 1 or more that many; 0 leaves none to choose from")
    return top_k


class StreamOptions(Wire):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool = False


class PromptCacheOptions(Wire):
    mode: Literal["implicit", "explicit"] = "implicit"
    ttl: str = ""


class Asked(Wire):
    """The fields that chat, completions and responses share. None: not said; the next in line decides."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    stop: Stops | None = None
    stream: bool = False
    user: Owner | None = None
    safety_identifier: Owner | None = None
    metadata: Metadata = Field(
        default_factory=dict, json_schema_extra=EMPTY_OBJECT, description="echoed and stored"
    )
    top_k: Annotated[int, Field(ge=-1, le=1_000), AfterValidator(_all_or_some)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    # A default that holds mappings would be copied deeply for every request.
    fewshot: FewshotRequest = Field(default_factory=lambda: UNEXTENDED)
    # Accepted and ignored: none of their allowed values can change the answer (fields.py, class I).
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: PromptCacheOptions | None = None

    def sampling(self) -> Sampling:
        return Sampling(**self._drawn())

    def _drawn(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
        }

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Generation(Asked):
    """The further fields of chat and completions alike."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    n: Annotated[int, Field(ge=1, le=8)] = 1
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=300), AfterValidator(_token_ids)
    ] = Field(
        default_factory=dict, json_schema_extra=EMPTY_OBJECT, description="ids of this model's tokenizer"
    )
    stream_options: StreamOptions = StreamOptions()
    ignore_eos: bool = False
    include: Annotated[list[Annotated[str, Field(pattern=HARMLESS)]], Field(max_length=16)] = Field(
        default_factory=list, json_schema_extra=EMPTY_LIST
    )

    @model_validator(mode="after")
    def _flags_one_answer(self) -> Self:
        if self.fewshot.unsupported and self.n > 1:
            raise fault("Sentences are flagged in one answer, so n must be 1", at="fewshot.unsupported")
        return self

    def sampling(self) -> Sampling:
        return Sampling(
            **self._drawn(),
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
        )

    def bias(self) -> dict[int, float]:
        return {int(key): value for key, value in self.logit_bias.items()}


def check_scopes(asked: Asked, context: Context) -> None:
    """Raises InsufficientScope where a field needs more than the route does."""
    if asked.fewshot.inspect and "audit" not in context.scopes:
        raise InsufficientScope(
            "'fewshot.inspect' needs a key with the scope audit.", param="fewshot.inspect"
        )


class Unit(NamedTuple):
    name: str
    kind: str


def unit_of(
    context: Context, *, unit: str | None, safety: str | None, user: str | None, metadata: Mapping[str, str]
) -> Unit:
    """Whom an experiment assigns, the first that is named (openai-surface §10.4); else this request alone."""
    for kind, name in (
        ("unit", unit),
        ("safety_identifier", safety),
        ("user", user),
        ("metadata", metadata.get("unit_id")),
        ("header", context.unit_header),
    ):
        if name:  # an empty name would make one unit of all who leave it empty
            return Unit(name, kind)
    return Unit(context.id, "request")


def turn_of(asked: Asked, context: Context, ignored: tuple[str, ...], *, model: str = "", **own: Any) -> Turn:
    """The turn as far as every route says it alike, with what is a route's `own`.

    Raises InsufficientScope.
    """
    check_scopes(asked, context)
    unit = unit_of(
        context,
        unit=asked.fewshot.unit,
        safety=asked.safety_identifier,
        user=asked.user,
        metadata=asked.metadata,
    )
    return Turn(
        id=context.id,
        created=context.created,
        tenant=context.tenant,
        model=model,
        sampling=asked.sampling(),
        stop=asked.stops(),
        wishes=UNWISHED if asked.fewshot is UNEXTENDED else asked.fewshot.wishes(),
        stream=asked.stream,
        unit=unit.name,
        unit_kind=unit.kind,
        metadata=asked.metadata,
        noted=context.noted,
        deadline_seconds=context.deadline_for(stream=asked.stream),
        ignored=ignored,
        **own,
    )


def shared_turn(asked: Generation, context: Context, ignored: tuple[str, ...], **own: Any) -> Turn:
    """The turn as chat and completions say it alike, with what is one's `own`. Raises InsufficientScope."""
    shared = {
        "model": asked.model,
        "n": asked.n,
        "max_tokens": asked.max_tokens,
        "logit_bias": asked.bias(),
        "ignore_eos": asked.ignore_eos,
        "include_usage": asked.stream_options.include_usage,
        "continuous_usage": asked.stream_options.continuous_usage_stats,
    }
    return turn_of(asked, context, ignored, **{**shared, **own})
