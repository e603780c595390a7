"""The journal's turns as rows, for evaluation and exports; docs/experiments.md says what the fields mean."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, select

from server.schema import exposures, feedback, plans, replies

PAGE = 500  # turns read at once
Turn = dict[str, Any]
COLUMNS = (
    exposures,
    *(plans.c[name] for name in ("served", "grounding", "prompt_tokens", "chunks")),
    *(replies.c[name] for name in ("outcome", "completion_tokens", "cached_tokens", "cited")),
    *(replies.c[name] for name in ("citations_dropped", "first_token_seconds", "total_seconds")),
)
RECIPE = (
    *(plans.c[name] for name in ("base", "base_sha256", "fingerprint", "template", "template_sha256")),
    *(plans.c[name] for name in ("demos", "pool_sha256", "generations", "dropped", "limits")),
    *(
        plans.c[name]
        for name in ("prompt_sha256", "messages", "asked", "variables", "adapter", "adapter_sha256")
    ),
    *(replies.c[name] for name in ("texts", "texts_sha256")),
)
JOINED = exposures.outerjoin(plans, plans.c.turn == exposures.c.turn).outerjoin(
    replies, replies.c.turn == exposures.c.turn
)


def logged_turns(engine: Engine, *wanted: ColumnElement[bool], recipe: bool = False) -> Iterator[Turn]:
    """Turns whose exposures pass `wanted`, in their order; `recipe` adds what made the prompt."""
    columns: tuple[Any, ...] = (*COLUMNS, *RECIPE) if recipe else COLUMNS
    at, last = -1.0, ""
    while True:
        after = (exposures.c.at > at) | and_(exposures.c.at == at, exposures.c.turn > last)
        asked = select(*columns).select_from(JOINED).where(after, *wanted)
        with engine.connect() as connection:
            rows = connection.execute(asked.order_by(exposures.c.at, exposures.c.turn).limit(PAGE)).all()
            said = feedback_on(connection, [row.turn for row in rows])
        for row in rows:
            yield {**_turn(row, said.get(row.turn, [])), **(_recipe(row) if recipe else {})}
        if len(rows) < PAGE:
            return
        at, last = rows[-1].at, rows[-1].turn


def feedback_on(connection: Connection, turns: Sequence[str]) -> Mapping[str, list[dict[str, Any]]]:
    """Everything said of these turns, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    asked = select(feedback).where(feedback.c.turn.in_(turns)).order_by(feedback.c.at, feedback.c.id)
    for row in connection.execute(asked):
        said = {"kind": row.metric, "value": json.loads(row.value), "at": row.at, "by": row.giver}
        said |= {"comment": row.comment} if row.comment else {}
        said |= {"choice": row.choice} if row.choice else {}
        found.setdefault(row.turn, []).append(said)
    return found


def _turn(row: Row[Any], said: list[dict[str, Any]]) -> Turn:
    arm = f"{row.experiment}/{row.arm}" if row.experiment else None
    return {
        "kind": "turn",
        "turn": row.turn,
        "at": row.at,
        "unit": row.unit,
        "unit_kind": row.unit_kind,
        "experiment": row.experiment,
        "phase": row.phase,
        "arm": row.arm,
        "propensity": row.propensity,
        "slice": bool(row.slice),
        "served_as": row.served,
        "fell_back": bool(arm and row.served and row.served != arm),
        "refused": row.grounding == "refused",
        "failed": row.outcome is None or row.outcome == "failed",
        "cancelled": row.outcome == "cancelled",
        "outcome": row.outcome,
        "ttft_ms": _ms(row.first_token_seconds),
        "total_ms": _ms(row.total_seconds),
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "sources": None if row.chunks is None else len(json.loads(row.chunks)),
        "cited": None if row.cited is None else len(json.loads(row.cited)),
        "citations_dropped": row.citations_dropped,
        "covariates": _numbers(json.loads(row.metadata)),
        "feedback": said,
    }


def _recipe(row: Row[Any]) -> Turn:
    names = (
        "demos",
        "chunks",
        "cited",
        "generations",
        "dropped",
        "limits",
        "messages",
        "asked",
        "variables",
        "texts",
    )
    read = {name: _read(getattr(row, name)) for name in names}
    return {
        "model": row.model,
        "base": row.base,
        "base_sha256": row.base_sha256,
        "fingerprint": row.fingerprint,
        "template": row.template,
        "template_sha256": row.template_sha256,
        "pool_sha256": row.pool_sha256,
        "adapter": row.adapter,
        "adapter_sha256": row.adapter_sha256,
        "metadata": json.loads(row.metadata),
        "prompt_sha256": row.prompt_sha256,
        "output_sha256": row.texts_sha256,
        "demos": read["demos"],
        "chunks": read["chunks"],
        "cited_chunks": read["cited"],
        "generations": read["generations"],
        "dropped": read["dropped"],
        "sampling": read["limits"],
        "messages": read["messages"],
        "asked": read["asked"],
        "variables": read["variables"],
        "outputs": read["texts"],
    }


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _numbers(metadata: Mapping[str, str]) -> dict[str, float]:
    """What the caller said of the unit in numbers, before anything was answered."""
    found: dict[str, float] = {}
    for name, text in metadata.items():
        try:
            found[name] = float(text)
        except ValueError:
            continue
    return found
