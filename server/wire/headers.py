"""Request headers that mean something, and the response headers of a generation (openai-surface §1)."""

import re
from collections.abc import Mapping, Sequence

from server.errors import InvalidValue
from server.quotas import Kind, Standing
from server.records import Plan

SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600.0
# What a browser lets a page read of an answer, where pages may call at all.
EXPOSED = (
    "x-request-id",
    *(f"x-fewshot-{name}" for name in ("id", "arm", "template", "adapter", "generation", "prompt")),
    *(f"x-fewshot-{name}" for name in ("grounding", "ignored", "deduplicated")),
    *(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")),
    *(f"x-ratelimit-{what}-tokens" for what in ("limit", "remaining", "reset")),
    *("retry-after", "retry-after-ms", "x-should-retry", "openai-poll-after-ms"),
)
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


MEANT = frozenset(
    (
        *(b"x-request-timeout", b"x-stainless-read-timeout", b"x-stainless-retry-count"),
        *(b"x-client-request-id", b"x-request-id", b"idempotency-key", b"traceparent"),
    )
)


def meant(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Those of a request's headers that the functions below ask for; of several of a name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw) if name in MEANT}


def deadline_of(headers: Mapping[str, str]) -> float | None:
    """X-Request-Timeout, in seconds. Raises InvalidValue where it is no number from 0.1 to 3600."""
    asked = headers.get("x-request-timeout")
    if asked is None:
        return None
    seconds = _number(asked)
    if seconds is None or not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise InvalidValue("X-Request-Timeout must be seconds from 0.1 to 3600", param="X-Request-Timeout")
    return seconds


def patience_of(headers: Mapping[str, str]) -> float | None:
    """The client's own read timeout in seconds, where it says one that is of use."""
    said = headers.get("x-stainless-read-timeout")
    waits = None if said is None else _number(said)
    return waits if waits is not None and SHORTEST_SECONDS <= waits <= LONGEST_SECONDS else None


def noted_of(headers: Mapping[str, str]) -> dict[str, str | int]:
    """What a generation writes down of its headers, by the journal's column; nothing that is malformed."""
    if not headers:
        return {}
    found: dict[str, str | int | None] = {
        "client_request_id": _visible(headers, "x-client-request-id", 128)
        or _visible(headers, "x-request-id", 128),
        "idempotency_key": _visible(headers, "idempotency-key", 255),
        "retry_count": retry_count_of(headers),
        "trace": _trace(headers.get("traceparent", "")),
    }
    return {name: value for name, value in found.items() if value is not None}


def retry_count_of(headers: Mapping[str, str]) -> int | None:
    """How often the client has sent this before: 0 at first. None: it does not say."""
    said = headers.get("x-stainless-retry-count", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= 4 else None


def fewshot_headers(plan: Plan) -> dict[str, str]:
    """What made the answer, for those who see headers and no bodies; equal to the body's `fewshot` object."""
    template = plan.template
    generations = ",".join(f"{store}={number}" for store, number in sorted(plan.generations.items()))
    headers = {
        "x-fewshot-id": plan.turn.id,
        "x-fewshot-arm": plan.met.arm,
        "x-fewshot-template": f"{template.name}@{template.version}" if template else "none",
        "x-fewshot-adapter": plan.adapter.reference if plan.adapter else "none",
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


def _visible(headers: Mapping[str, str], name: str, longest: int) -> str | None:
    """A header of visible ASCII characters that is not too long."""
    said = headers.get(name)
    return said if said is not None and re.fullmatch(f"[!-~]{{1,{longest}}}", said) else None


def _trace(traceparent: str) -> str | None:
    """The trace id of a W3C traceparent."""
    found = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[1] if found and found[1] != "0" * 32 else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
