"""The small steps on the way to a plan that need nothing but the turn and the model."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from prompts.layout import opening
from prompts.records import Message, Template
from prompts.templates import Library
from server.errors import InvalidValue
from server.loadables import TemplateUse
from server.profile import ModelProfile
from server.records import Grounding, Limits, Plan, Turn
from server.replay import describe_engine
from server.seams import Tokenizer
from server.token_bytes import token_bytes
from server.token_reading import Rereading

INLINE_CHARS = 4_000  # shorter prompts are tokenised on the event loop: quicker than a thread's round trip
AHEAD_CHARS = 2_000  # of a caller's: half a millisecond of reading, more than handing it over costs
T = TypeVar("T")


class Split(NamedTuple):
    """The caller's messages as a template takes them."""

    instructions: str | None
    history: tuple[Message, ...]
    question: str
    following: tuple[Message, ...] = ()  # calls of functions and what they gave, after the question


def split(turn: Turn) -> Split:
    """The parts of the caller's messages, or of the one raw prompt.

    Raises InvalidValue where no question can be told from the rest.
    """
    if turn.prompts:
        if len(turn.prompts) != 1 or not isinstance(turn.prompts[0], str):
            raise InvalidValue("with a template or store, prompt must be one string", param="prompt")
        return Split(None, (), turn.prompts[0])
    system = [message.text for message in turn.messages if message.role == "system"]
    talk = [message for message in turn.messages if message.role != "system"]
    asked = [at for at, message in enumerate(talk) if message.role == "user"]
    if not asked or talk[-1].role not in ("user", "tool"):
        raise InvalidValue(
            "with a template or store, the last message must be the user's question", param="messages"
        )
    at = asked[-1]
    return Split("\n\n".join(system) or None, tuple(talk[:at]), talk[at].text, tuple(talk[at + 1 :]))


def choose_template(turn: Turn, library: Library) -> Template | None:
    """The template named, or the plainest that has a place for what was asked; None = pass-through.

    Raises UnknownTemplate.
    """
    if turn.wishes.template:
        return library.get(turn.wishes.template)
    with_demos = bool(turn.wishes.demos)
    if turn.search.stores:
        return library.get("grounded-few-shot" if with_demos else "grounded")
    return library.get("few-shot") if with_demos else None


def drafted(
    turn: Turn,
    profile: ModelProfile,
    prompts: tuple[tuple[int, ...], ...],
    limits: Limits,
    *,
    template: Template | None = None,
    messages: Sequence[Message] = (),
    grounding: Grounding = "not_requested",
    prompt_bytes: bytes | None = None,
    **known: Any,
) -> Plan:
    """The plan as far as model, prompt and limits say it, with its fingerprint; `known` are other fields."""
    if prompt_bytes is None:
        prompt_bytes = token_bytes(prompts)
    return Plan(
        turn=turn,
        base=profile.name,
        base_sha256=profile.sha256,
        fingerprint=profile.fingerprint,
        engine=describe_engine(profile),
        adapter=profile.adapter,
        prompts=prompts,
        prompt_sha256=hashlib.sha256(prompt_bytes).hexdigest(),
        prompt_bytes=prompt_bytes,
        limits=limits,
        template=None
        if template is None
        else TemplateUse(name=template.name, version=str(template.version), sha256=template.digest),
        messages=tuple(messages),
        grounding=grounding,
        **known,
    )


def reading_ahead(
    turn: Turn, template: Template, spoken: Split, profile: ModelProfile, reading: Rereading
) -> asyncio.Future[None] | None:
    """Beside a search, reads what the prompt will say whatever is found; None where that is too little."""
    if not turn.search.stores or sum(len(message.text) for message in turn.messages) < AHEAD_CHARS:
        return None

    def work() -> None:
        with suppress(Exception):  # whatever it is: the layout meets it as well, and says so
            reading.ahead(
                opening(
                    template,
                    question=spoken.question,
                    history=spoken.history,
                    variables=turn.wishes.variables,
                    instructions=spoken.instructions,
                    special_tokens=profile.special_tokens,
                )
            )

    return asyncio.ensure_future(asyncio.to_thread(work))


def texts_of(turn: Turn, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The prompts as text, for `echo` to give back."""
    return tuple(prompt if isinstance(prompt, str) else tokenizer.decode(prompt) for prompt in turn.prompts)


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """The work here, or on a thread when it reads more than INLINE_CHARS characters."""
    return work() if size < INLINE_CHARS else await asyncio.to_thread(work)
