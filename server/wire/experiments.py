"""`/v1/experiments`: what runs, what it says, and the decisions about it (openai-surface §11)."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from prompts.experiment_records import Arm
from server.experiment_book import Decision, Logged
from server.wire.fields import EXPERIMENT_DECISIONS
from server.wire.reading import Wire, read_body
from server.wire.shapes import (
    ANYTHING,
    COUNT,
    NUMBER,
    TEXT,
    TIME,
    YES_OR_NO,
    made_of,
    many,
    maybe,
    one_of,
)

Reason = Annotated[str, Field(max_length=1_000)]
NeededReason = Annotated[str, Field(min_length=1, max_length=1_000)]


class ExperimentPromotion(Wire):
    arm: Annotated[str, Field(min_length=1, max_length=128)]
    reason: Reason = Field(default="", description="needed unless the arm has won")
    force: bool = Field(default=False, description="against the verdict; logged")


class ExperimentStop(Wire):
    reason: NeededReason


class ExperimentRollback(Wire):
    reason: Reason = ""


def read_promotion(body: bytes, unknown_fields: str = "refuse") -> ExperimentPromotion:
    """Raises InvalidValue, MissingParameter or UnsupportedParameter with `param`; so do the next two."""
    return read_body(body, ExperimentPromotion, EXPERIMENT_DECISIONS, unknown_fields)[0]


def read_stop(body: bytes, unknown_fields: str = "refuse") -> ExperimentStop:
    return read_body(body, ExperimentStop, EXPERIMENT_DECISIONS, unknown_fields)[0]


def read_rollback(body: bytes, unknown_fields: str = "refuse") -> ExperimentRollback:
    return read_body(body or b"{}", ExperimentRollback, EXPERIMENT_DECISIONS, unknown_fields)[0]


def experiment_object(known: Logged, exposures: Mapping[str, int]) -> dict[str, Any]:
    """`exposures` are counted requests by arm."""
    experiment = known.experiment
    return {
        "id": experiment.name,
        "object": "experiment",
        "status": known.status,
        "question": experiment.question,
        "unit": experiment.unit,
        "mode": experiment.mode,
        "ramp": experiment.ramp,
        "phase": experiment.phase,
        "control": experiment.control,
        "arms": [_arm(arm) for arm in experiment.arms],
        "metric": experiment.decide.primary,
        "guardrails": [
            {"metric": guard.metric, "margin": guard.margin} for guard in experiment.decide.guardrails
        ],
        "started_at": int(known.started),
        "salt_sha256": hashlib.sha256(experiment.salt.encode()).hexdigest(),
        "exposures": {arm.name: exposures.get(arm.name, 0) for arm in experiment.arms},
        "verdict": known.verdict.verdict if known.verdict else None,
        "decisions": [decided_object(one) for one in known.decisions],
    }


def experiment_list(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All there are: a handful."""
    ids = [one["id"] for one in objects]
    return {
        "object": "list",
        "data": list(objects),
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": False,
    }


def decided_object(one: Decision) -> dict[str, Any]:
    return {
        "object": "experiment.decision",
        "experiment": one.experiment,
        "action": one.action,
        "verdict": one.verdict,
        "before": one.before,
        "after": one.after,
        "by": one.by,
        "at": int(one.at),
        "reason": one.reason,
        "forced": one.forced,
        "report_sha256": one.report_sha256,
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "weight": arm.weight,
        "template": arm.template,
        "adapter": arm.adapter or None,
        "pool": arm.pool,
        "static": arm.static.strategy if arm.static else None,
        "dynamic": arm.dynamic.strategy if arm.dynamic else None,
        "store": arm.retrieval.store,
        "top": arm.retrieval.top,
        "sha256": arm.digest,
    }


DECISION = made_of(
    object=one_of("experiment.decision"),
    experiment=TEXT,
    action=one_of("verdict", "stop", "promote", "rollback"),
    verdict=maybe(TEXT),
    before=maybe(TEXT),
    after=maybe(TEXT),
    by=TEXT,
    at=TIME,
    reason=TEXT,
    forced=YES_OR_NO,
    report_sha256=maybe(TEXT),
)
EXPERIMENT = made_of(
    id=TEXT,
    object=one_of("experiment"),
    status=one_of("running", "stopped", "promoted"),
    question=TEXT,
    ramp=NUMBER,
    phase=COUNT,
    control=TEXT,
    arms=many(made_of(name=TEXT, weight=NUMBER, template=TEXT, adapter=maybe(TEXT))),
    metric=TEXT,
    guardrails=many(made_of(metric=TEXT, margin=NUMBER)),
    started_at=TIME,
    salt_sha256=TEXT,
    exposures={"type": "object", "additionalProperties": COUNT},
    verdict=maybe(TEXT),
    decisions=many(DECISION),
)
REPORT = made_of(
    object=one_of("experiment.report"),
    generated_at=NUMBER,
    method=TEXT,
    alpha=NUMBER,
    arms=many(made_of(name=TEXT, units=COUNT, with_feedback=maybe(COUNT), mean=maybe(NUMBER))),
    comparisons=many(made_of(arm=TEXT, versus=TEXT, metric=TEXT, difference=maybe(NUMBER))),
    sample_ratio=made_of(assigned=ANYTHING, with_feedback=ANYTHING),
    guardrails=many(made_of(metric=TEXT, arm=TEXT, bound=maybe(NUMBER), margin=NUMBER, breached=YES_OR_NO)),
    verdict=one_of("winner", "equivalent", "undecided", "harmful", "invalid", "running"),
    winner=maybe(TEXT),
)
