"""`POST /v1/completions`: body → Turn, Reply → body."""

from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from server.errors import InvalidValue, UnsupportedParameter
from server.records import Reply, Search, Turn
from server.wire.aliases import bound
from server.wire.answers import TokenTable, echoed, usage_object
from server.wire.fields import COMPLETIONS
from server.wire.generation import Generation, shared_turn
from server.wire.provenance import fewshot_object
from server.wire.reading import Context, fault, read_body

USUAL_TOKENS = 16  # OpenAI's
MOST_PROMPTS = 16
MOST_CHOICES = 16  # n × prompts

Text = Annotated[str, Field(min_length=1)]
# The vocabulary is the model's; this bound only keeps ids within what engines store.
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, fail_fast=True)]


def _kind(prompt: Any) -> str:
    if not isinstance(prompt, list):
        return "<text>"
    first = prompt[0] if prompt else ""
    return "<lists>" if isinstance(first, list) else "<ids>" if isinstance(first, int) else "<texts>"


Prompt = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS), Tag("<texts>")]
    | Annotated[Ids, Tag("<ids>")]
    | Annotated[list[Ids], Field(min_length=1, max_length=MOST_PROMPTS), Tag("<lists>")],
    Discriminator(_kind),
]


class CompletionRequest(Generation):
    """openai-surface §6."""

    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="default: the alias's, the template's, else 16"
    )
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.best_of is not None and self.best_of != self.n:
            raise fault(
                "choices are not ranked here; leave it out or make it n", at="best_of", kind="unsupported"
            )
        if self.max_tokens == 0 and not self.echo:
            raise fault("0 leaves nothing to answer without echo", at="max_tokens")
        if self.n * len(self.prompts()) > MOST_CHOICES:
            raise fault(f"n × prompts may be at most {MOST_CHOICES}", at="n")
        return self

    def prompts(self) -> tuple[str | tuple[int, ...], ...]:
        if isinstance(self.prompt, str):
            return (self.prompt,)
        flat: list[int] = []
        several: list[str | tuple[int, ...]] = []
        for item in self.prompt:
            if isinstance(item, int):
                flat.append(item)
            else:
                several.append(item if isinstance(item, str) else tuple(item))
        return (tuple(flat),) if flat else tuple(several)


def read_completion(body: bytes, context: Context) -> Turn:
    """What the caller asks for, checked as far as the body alone allows.

    Left to those who know the model: its name, ids against its vocabulary, the room, and whether
    `limits.echo_logprobs` is on.
    Raises InvalidValue, MissingParameter, UnsupportedParameter or InsufficientScope with `param`.
    """
    asked, ignored = read_body(body, CompletionRequest, COMPLETIONS, context.unknown_fields)
    turn = shared_turn(
        asked,
        context,
        ignored,
        prompts=asked.prompts(),
        logprobs=asked.logprobs,
        echo=asked.echo,
        search=Search(stores=tuple(asked.fewshot.vector_store_ids or ())),
    )
    turn = bound(turn, asked, context)
    if turn.raw:
        return replace(turn, max_tokens=USUAL_TOKENS) if turn.max_tokens is None else turn
    if not isinstance(asked.prompt, str):  # a question, by the request's own words or by its alias's
        raise InvalidValue(
            "'prompt': with a template or stores it is the question: one string.", param="prompt"
        )
    if asked.echo:
        raise UnsupportedParameter("'echo': not with a template or stores.", param="echo")
    return turn


def completion_body(reply: Reply, public_url: str = "") -> dict[str, Any]:
    """The whole answer as one `text_completion` object, choices prompt-major.

    `public_url` is there for the likeness with chat: raw text has no place for annotations.
    """
    plan, turn = reply.plan, reply.plan.turn
    choices = []
    for choice in reply.choices:
        prefix = echoed(plan, choice.index)
        table = TokenTable(prefix, best=turn.logprobs)
        choices.append(
            {
                "index": choice.index,
                "text": prefix + choice.text,
                "logprobs": table.rows(choice.prompt_logprobs, choice.logprobs),
                "finish_reason": choice.finish,
            }
        )
    return {
        "id": turn.id,
        "object": "text_completion",
        "created": turn.created,
        "model": turn.model,
        "choices": choices,
        "usage": usage_object(reply.usage),
        "system_fingerprint": plan.fingerprint,
        "fewshot": fewshot_object(plan, reply),
    }
