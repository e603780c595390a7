"""Request headers that mean something, and the response headers of a generation (openai-surface §1)."""

from collections.abc import Mapping

from server.errors import InvalidValue
from server.quotas import Kind, Standing
from server.records import Plan

SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600.0


def deadline_of(headers: Mapping[str, str]) -> float | None:
    """X-Request-Timeout, else the client's own read timeout; seconds.

    Raises InvalidValue for an X-Request-Timeout that is no number from 0.1 to 3600.
    """
    asked = headers.get("x-request-timeout")
    if asked is None:
        waits = _number(headers.get("x-stainless-read-timeout", ""))
        return waits if waits is not None and SHORTEST_SECONDS <= waits <= LONGEST_SECONDS else None
    seconds = _number(asked)
    if seconds is None or not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise InvalidValue("X-Request-Timeout must be seconds from 0.1 to 3600", param="X-Request-Timeout")
    return seconds


def fewshot_headers(plan: Plan) -> dict[str, str]:
    """What made the answer, for those who see headers and no bodies; equal to the body's `fewshot` object."""
    template = plan.template
    generations = ",".join(f"{store}={number}" for store, number in sorted(plan.generations.items()))
    headers = {
        "x-fewshot-id": plan.turn.id,
        "x-fewshot-arm": plan.met.arm,
        "x-fewshot-template": f"{template.name}@{template.version}" if template else "none",
        "x-fewshot-adapter": "none",
        "x-fewshot-generation": generations,
        "x-fewshot-prompt": plan.prompt_sha256[:16],
        "x-fewshot-grounding": plan.grounding,
    }
    if plan.met.phase is not None:
        headers["x-fewshot-phase"] = str(plan.met.phase)
    if plan.turn.ignored:
        headers["x-fewshot-ignored"] = ",".join(plan.turn.ignored)
    return headers


def ratelimit_headers(standings: Mapping[Kind, Standing]) -> dict[str, str]:
    """OpenAI's x-ratelimit-*; nothing is said of what has no limit."""
    headers: dict[str, str] = {}
    for kind, standing in standings.items():
        headers[f"x-ratelimit-limit-{kind}"] = str(standing.limit)
        headers[f"x-ratelimit-remaining-{kind}"] = str(standing.remaining)
        headers[f"x-ratelimit-reset-{kind}"] = duration(standing.reset_seconds)
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    short = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{short}s" if minutes else f"{short}s"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
