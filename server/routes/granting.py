"""A key's leave to have something generated or embedded, asked for before anything is done."""

from starlette.requests import Request

from server.admission import Ticket
from server.errors import RateLimited, ServerError
from server.keys import Key
from server.pipeline import Parts
from server.quotas import Allowance, Quotas
from server.records import Turn
from server.wire.problems import problem_of

CHARS_A_TOKEN = 4  # what a text is reserved by until it is tokenised


def grant(request: Request, tokens: int) -> Allowance:
    """One request of about `tokens`, by the key that `requires` found; the answer's headers will tell.

    Raises RateLimited.
    """
    state = request.scope["state"]
    key: Key = state["key"]
    quotas: Quotas = state["door"].quotas
    state["standings"] = lambda: quotas.standings(key.prefix, key.rates)
    try:
        return quotas.take(key.prefix, key.rates, tokens=tokens)
    except RateLimited as refusal:
        parts: Parts = state["parts"]
        parts.metrics.rejected.labels(problem_of(refusal).code).inc()
        raise


async def place(
    request: Request, *, tokens: int, weight: int, deadline_seconds: float | None
) -> tuple[Ticket, Allowance]:
    """The key's leave for about `tokens`, and a place in the engine that settles it when it is left.

    Raises what `grant` and `Admission.enter` raise; then nothing is taken.
    """
    state = request.scope["state"]
    parts: Parts = state["parts"]
    allowance = grant(request, tokens)
    try:
        ticket = await parts.admission.enter(
            weight=weight, deadline_seconds=deadline_seconds, key=state["key"].prefix, cost=tokens
        )
    except ServerError as refusal:
        allowance.cancel()
        parts.metrics.rejected.labels(problem_of(refusal).code).inc()
        raise
    except BaseException:
        allowance.settle(0)
        raise
    ticket.settle = allowance.settle
    return ticket, allowance


def estimate(turn: Turn, output_tokens: int) -> int:
    """Tokens that a turn may come to: its text by length, and all it may be answered."""
    said = sum(len(message.text) for message in turn.messages)
    said += sum(len(prompt) for prompt in turn.prompts if isinstance(prompt, str)) + turn.calling.chars
    exact = sum(len(prompt) for prompt in turn.prompts if not isinstance(prompt, str))
    answers = turn.n * max(len(turn.prompts), 1)
    wanted = output_tokens if turn.max_tokens is None else turn.max_tokens
    return exact - -said // CHARS_A_TOKEN + answers * wanted
