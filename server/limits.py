"""What a decoder is held to, with nothing left to a default."""

import hmac
import random
from functools import lru_cache
from typing import TypeVar

from prompts.budget import completion_room
from prompts.records import Sampling, Template
from server.profile import ModelProfile
from server.records import Limits, Turn

T = TypeVar("T")
NOTHING_SAID = Sampling()


def decide_limits(
    turn: Turn,
    template: Template | None,
    profile: ModelProfile,
    prompt_tokens: int,
    output_tokens: int,
    secret: bytes = b"",
) -> Limits:
    """Every value: the caller's, else the template's, else the model's own, else OpenAI's default.

    `output_tokens` stands in for max_tokens when nobody says; whatever is wanted, prompt and answer fit the
    model's context. `secret` salts the prefix cache.
    """
    asked, own = turn.sampling, profile.sampling
    default = template.sampling if template else NOTHING_SAID

    def first(*values: T | None, last: T) -> T:
        for value in values:
            if value is not None:
                return value
        return last

    wanted = first(turn.max_tokens, default.max_tokens, last=output_tokens)
    return Limits(
        max_tokens=max(completion_room(profile.context_tokens, prompt_tokens, wanted), 1),
        n=turn.n,
        temperature=first(asked.temperature, default.temperature, own.temperature, last=1.0),
        top_p=first(asked.top_p, default.top_p, own.top_p, last=1.0),
        top_k=first(asked.top_k, own.top_k, last=-1),
        min_p=first(asked.min_p, own.min_p, last=0.0),
        frequency_penalty=first(asked.frequency_penalty, last=0.0),
        presence_penalty=first(asked.presence_penalty, last=0.0),
        repetition_penalty=first(
            asked.repetition_penalty, default.repetition_penalty, own.repetition_penalty, last=1.0
        ),
        seed=first(asked.seed, last=random.getrandbits(31)),
        stop=turn.stop,
        logit_bias=turn.logit_bias,
        ignore_eos=turn.ignore_eos,
        logprobs=turn.logprobs,
        prompt_logprobs=turn.logprobs if turn.echo else None,
        schema=turn.schema if turn.calling.schema is None else turn.calling.schema,
        schema_of="response_format" if turn.calling.schema is None else "tools",
        parsed=turn.calling.parsed,
        cache_salt=salt_of(secret, turn.tenant),
    )


@lru_cache(maxsize=4096)
def salt_of(secret: bytes, tenant: str) -> str:
    """Keeps tenants out of each other's prefix cache, whose hits would show in the timing."""
    return hmac.digest(secret, f"salt:{tenant}".encode(), "sha256").hex() if secret else ""
