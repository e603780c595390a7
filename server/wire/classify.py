"""`POST /v1/classify`: body → Classification, labels → body."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from prompts.records import Calibration
from server.classifying import Classification, Labelled, Labels
from server.errors import InvalidValue
from server.label_scoring import Way
from server.records import Turn, Wishes
from server.wire.fields import CLASSIFY
from server.wire.generation import Metadata, Owner, unit_of
from server.wire.reading import Context, Wire, read_body

MOST_TEXTS = 512
Text = Annotated[str, Field(min_length=1)]
Input = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS), Tag("<list>")],
    Discriminator(lambda value: "<list>" if isinstance(value, list) else "<text>"),
]


class ClassifyRequest(Wire):
    input: Input = Field(description="the text to label, or a list of them")
    model: Annotated[str, Field(min_length=1, max_length=256)]
    template: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="`name` or `name@version` of a template with labels"
    )
    variables: Annotated[dict[str, str], Field(max_length=16)] = Field(
        default={}, description="values of the template's further slots"
    )
    demos: Annotated[int, Field(ge=0, le=32)] | None = Field(
        default=None, description="how many worked examples each text is shown with"
    )
    scoring: Way | None = Field(
        default=None, description="first_token: one step a text; sequence: labels may begin alike"
    )
    calibrate: Calibration | None = Field(
        default=None, description="batch needs 64 texts, or a calibrator of the operator's"
    )
    unit: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="experiment unit"
    )
    user: Owner | None = None
    metadata: Metadata = Field(default={}, description="stored")


def read_classify(body: bytes, context: Context) -> Classification:
    """Raises InvalidValue, MissingParameter or UnsupportedParameter with `param`."""
    asked, ignored = read_body(body, ClassifyRequest, CLASSIFY, context.unknown_fields)
    if asked.model in context.aliases:
        raise InvalidValue(
            f"'model': {asked.model} is an alias, which answers questions; labels are asked of a model.",
            param="model",
        )
    unit = unit_of(context, unit=asked.unit, safety=None, user=asked.user, metadata=asked.metadata)
    turn = Turn(
        id=context.id,
        created=context.created,
        tenant=context.tenant,
        model=asked.model,
        prompts=(asked.input,) if isinstance(asked.input, str) else tuple(asked.input),
        wishes=Wishes(template=asked.template, variables=asked.variables, demos=asked.demos, unit=asked.unit),
        unit=unit.name,
        unit_kind=unit.kind,
        metadata=asked.metadata,
        noted=context.noted,
        deadline_seconds=context.deadline_for(stream=False),
        ignored=ignored,
    )
    return Classification(turn=turn, scoring=asked.scoring, calibrate=asked.calibrate)


def classify_body(labels: Labels) -> dict[str, Any]:
    plan, calibrator = labels.plan, labels.calibrator
    template = plan.template
    assert template is not None  # a classification always has one
    return {
        "id": plan.turn.id,
        "object": "list",
        "created": plan.turn.created,
        "model": plan.base,
        "data": [_object(index, one, labels.labels) for index, one in enumerate(labels.results)],
        "labels": list(labels.labels),
        "scoring": labels.scoring,
        "calibration": {
            "method": calibrator.method,
            "prompts": calibrator.prompts,
            "temperature": calibrator.temperature,
            "sha256": calibrator.digest if labels.kept else None,
            "of": asdict(calibrator.of),
        },
        "template": {"name": template.name, "version": template.version, "sha256": template.sha256},
        "demos": {"requested": plan.demos_requested, "pool_sha256": plan.pool_sha256},
        "prompt_sha256": plan.prompt_sha256,
        "usage": {
            "prompt_tokens": labels.usage.prompt_tokens,
            "total_tokens": labels.usage.prompt_tokens,
        },
        "timing": {"queue_seconds": plan.queue_seconds, "total_seconds": labels.total_seconds},
    }


def _object(index: int, one: Labelled, ids: Sequence[str]) -> dict[str, Any]:
    return {
        "object": "classification",
        "index": index,
        "label": one.label,
        "text": one.says,
        "probabilities": dict(zip(ids, one.probabilities, strict=True)),
        "logprobs": dict(zip(ids, one.logprobs, strict=True)),
        "demos": list(one.demos),
    }
