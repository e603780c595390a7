"""`[aliases.NAME]` of fewshot.toml: the one part of the settings whose names are the operator's."""

from typing import Annotated, Literal

from pydantic import Field

from server.section import Section


class AliasSampling(Section):
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=1_000)
    min_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)


Lock = Literal[
    "template",
    "variables",
    "vector_stores",
    "top",
    "score_threshold",
    "demos",
    "sampling",
    "max_tokens",
    "when_empty",
    "refusal_text",
    "citations",
]


class Alias(Section):
    """`[aliases.NAME]`: what a name that callers use as `model` stands for."""

    model: str | None = Field(None, description="the base model; default: the one this server serves")
    tenant: str | None = Field(None, description="whose name it is; default: everybody's")
    template: str | None = Field(None, min_length=1, description="`name` or `name@version`")
    variables: dict[str, str] = Field({}, description="values of that template's slots")
    vector_stores: tuple[str, ...] = Field((), max_length=8, description="names or ids of stores to search")
    top: int | None = Field(None, ge=1, le=50, description="chunks put before the model")
    score_threshold: float | None = Field(None, ge=0, le=1, description="hits below are not found at all")
    demos: int | None = Field(None, ge=0, le=32, description="how many worked examples")
    sampling: AliasSampling = Field(
        AliasSampling(),
        description="`temperature`, `top_p`, `top_k`, `min_p`, `frequency_penalty`, `presence_penalty`, "
        "`repetition_penalty`, `seed`",
    )
    max_tokens: int | None = Field(None, ge=1, description="longest answer")
    when_empty: Literal["answer", "refuse", "error"] | None = Field(
        None, description="when a search finds nothing: `answer`, `refuse` or `error`"
    )
    refusal_text: str | None = Field(None, max_length=1_000, description="the words of `refuse`")
    citations: Literal["markers", "links", "none"] | None = Field(
        None, description="`markers`, `links` or `none`"
    )
    lock: tuple[Lock, ...] = Field((), description="names of these fields that a request may not set itself")


AliasName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
